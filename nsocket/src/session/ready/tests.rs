use std::ptr::NonNull;
use std::sync::atomic::AtomicU64 as Plain;
use std::thread;

use super::*;

fn set_of(limit: u32) -> (Box<ReadyWords>, Taker) {
    let taker = Taker::new();
    taker.admit(limit);
    (Box::new(ReadyWords::new()), taker)
}

fn take_all(words: &ReadyWords, taker: &Taker) -> Vec<u16> {
    let mut out = vec![0; SESSIONS];
    let taken = taker.take(words, &mut out);
    out.truncate(taken);
    out
}

#[test]
fn takes_what_was_set_and_only_once() {
    let (words, taker) = set_of(SESSIONS as u32);
    let bits = [0, 63, 64, 447, 448, 1_023, 1_024, 40_000, u16::MAX];
    for bit in bits {
        assert!(words.set(bit));
        assert!(!words.set(bit), "it is set already");
    }
    assert!(taker.is_ready(&words));
    assert_eq!(take_all(&words, &taker), bits);
    assert!(!taker.is_ready(&words));
    assert_eq!(take_all(&words, &taker), []);
}

#[test]
fn a_short_buffer_leaves_the_rest() {
    let (words, taker) = set_of(5_000);
    let bits: Vec<u16> = (0..5_000).step_by(7).collect();
    for &bit in &bits {
        words.set(bit);
    }
    let mut all = Vec::new();
    let mut out = [0; 13];
    loop {
        let taken = taker.take(&words, &mut out);
        if taken == 0 {
            break;
        }
        all.extend_from_slice(&out[..taken]);
    }
    assert_eq!(all, bits);
    assert!(!taker.is_ready(&words));
    assert_eq!(taker.take(&words, &mut []), 0);
}

#[test]
fn everybody_has_a_turn() {
    for sessions in [2, 3, 64, 65, 1_500, 70 * 64] {
        let (words, taker) = set_of(sessions);
        let mut turns = vec![0_u32; sessions as usize];
        let mut out = [0; 5];
        for _ in 0..2 * sessions {
            for bit in 0..sessions {
                words.set(bit as u16);
            }
            let taken = taker.take(&words, &mut out);
            assert!(taken > 0);
            for &bit in &out[..taken] {
                turns[bit as usize] += 1;
            }
        }
        let (least, most) = (turns.iter().min(), turns.iter().max());
        assert!(
            most.unwrap() - least.unwrap() <= 1,
            "{least:?} to {most:?} turns of {sessions}"
        );
    }
}

#[test]
fn bits_of_nobody_are_not_looked_at() {
    for limit in [0, 1, 5, 64, 100, 1_024, 1_100] {
        let (words, taker) = set_of(limit);
        // All that a peer can do to the memory.
        words.top.store(u64::MAX, Ordering::Relaxed);
        for leaf in words.leaves.iter().flatten() {
            leaf.store(u64::MAX, Ordering::Relaxed);
        }
        let taken = take_all(&words, &taker);
        assert_eq!(taken.len(), limit as usize);
        assert!(taken.iter().all(|&bit| u32::from(bit) < limit));
        assert!(!taker.is_ready(&words), "no reason not to sleep");
    }
}

#[test]
fn a_top_bit_without_leaves_is_taken_back() {
    let (words, taker) = set_of(SESSIONS as u32);
    words.top.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(take_all(&words, &taker), []);
    assert!(!taker.is_ready(&words));
}

#[test]
fn a_leaf_whose_setter_died_is_found_with_the_next_set() {
    let (words, taker) = set_of(64);
    words.leaves[0][0].store(1 << 5, Ordering::Relaxed);
    assert!(!taker.is_ready(&words));
    assert!(words.set(5));
    assert_eq!(take_all(&words, &taker), [5]);
}

#[test]
fn a_cleared_bit_is_not_taken() {
    let (words, taker) = set_of(64);
    words.set(1);
    words.set(2);
    words.clear(1);
    assert_eq!(take_all(&words, &taker), [2]);
}

#[test]
fn memory_must_fit() {
    #[repr(align(64))]
    struct Memory([Plain; ReadyWords::BYTES / 8 + 1]);
    let mut memory = Memory(std::array::from_fn(|_| Plain::new(0)));
    let base = NonNull::from(&mut memory.0).cast::<u8>();
    // SAFETY: the memory is this test's, atomic words, and as long as said or longer.
    unsafe {
        let at =
            |from: usize, len| ReadyWords::at(NonNull::slice_from_raw_parts(base.add(from), len));
        assert!(at(0, ReadyWords::BYTES - 1).is_none(), "short");
        assert!(at(8, ReadyWords::BYTES).is_none(), "not aligned");
        assert!(at(0, ReadyWords::BYTES).unwrap().set(77));
    }
    assert_eq!(memory.0[2].load(Ordering::Relaxed), 1 << 13);
}

/// The set against a plain one, by generated operations.
#[test]
fn behaves_as_a_plain_set() {
    use std::collections::BTreeSet;
    bolero::check!()
        .with_type::<Vec<(u8, u16)>>()
        .for_each(|operations| {
            let words = ReadyWords::<3, 2>::new();
            let taker = Taker::new();
            let mut limit = 100;
            taker.admit(u32::from(limit));
            let mut model = BTreeSet::new();
            for &(operation, value) in operations {
                match operation % 8 {
                    0..5 => {
                        let bit = value % limit;
                        words.set(bit);
                        // The set has room for 384.
                        if bit < 384 {
                            model.insert(bit);
                        }
                    }
                    5 => {
                        limit = limit.max(value % 500);
                        taker.admit(u32::from(limit));
                    }
                    _ => {
                        let mut out = vec![0; usize::from(value % 70)];
                        let taken = taker.take(&words, &mut out);
                        assert_eq!(taken, model.len().min(out.len()));
                        for bit in &out[..taken] {
                            assert!(model.remove(bit), "{bit} was not set");
                        }
                    }
                }
            }
        });
}

/// Writers and two owners at once: every message is heard, though bits are fewer than messages.
#[test]
fn nothing_is_lost_among_threads() {
    const WRITERS: usize = 3;
    const MESSAGES: u64 = 30_000;
    let (words, taker) = set_of(SESSIONS as u32);
    let published: Vec<Plain> = (0..300).map(|_| Plain::new(0)).collect();
    let heard: Vec<Plain> = (0..300).map(|_| Plain::new(0)).collect();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (words, published) = (&words, &published);
            scope.spawn(move || {
                for message in 0..MESSAGES {
                    let session = (message as usize * 31 + writer) % published.len();
                    published[session].fetch_add(1, Ordering::Relaxed);
                    fence::full();
                    words.set((session * 211) as u16);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut out = [0; 7];
                while heard.iter().map(|h| h.load(Ordering::Relaxed)).sum::<u64>()
                    < WRITERS as u64 * MESSAGES
                {
                    assert!(std::time::Instant::now() < deadline, "a bit was lost");
                    let taken = taker.take(&words, &mut out);
                    for &bit in &out[..taken] {
                        let session = usize::from(bit) / 211;
                        let seen = published[session].load(Ordering::Relaxed);
                        heard[session].fetch_max(seen, Ordering::Relaxed);
                    }
                    if taken == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
    });
}
