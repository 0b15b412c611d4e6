use super::*;

const SHAPE: Shape = Shape {
    buffers: 4,
    size: 16,
};

fn provided(buffer: u16, len: u32) -> Provided {
    Provided {
        buffer,
        len,
        unfinished: false,
    }
}

fn lend(pool: &Rc<Pool>, provided: Provided) -> Vec<Lent> {
    let mut pieces = Vec::new();
    pool.lend(provided, |piece| pieces.push(piece));
    pieces
}

#[test]
fn a_buffer_comes_back_with_its_last_piece() {
    let pool = Pool::with_list(SHAPE).unwrap();
    let (buffer, start, size) = pool.take().unwrap();
    assert_eq!(size, 16);
    // SAFETY: the buffer was taken, so it is ours to fill.
    unsafe { start.copy_from_nonoverlapping(NonNull::from(b"hello").cast(), 5) };
    let mut pieces = lend(&pool, provided(buffer, 5));
    assert_eq!(&*pieces[0], b"hello");
    assert_eq!(pool.supplied.get(), 3);
    pieces[0].advance(2);
    pieces[0].truncate(2);
    assert_eq!(&*pieces[0], b"ll");
    drop(pieces);
    assert_eq!(pool.supplied.get(), 4);
    assert_eq!(pool.take().unwrap().0, buffer, "the last used is used next");
}

#[test]
fn a_bundle_is_found_in_the_order_of_the_ring() {
    let pool = Pool::with_ring(SHAPE).unwrap();
    // Buffers 0 and 1 are used and come back in the other order: 2 3 1 0.
    let first = lend(&pool, provided(0, 1));
    drop(lend(&pool, provided(1, 1)));
    drop(first);
    let pieces = lend(&pool, provided(2, 16 * 3 + 4));
    assert_eq!(
        pieces.iter().map(|p| p.len()).collect::<Vec<_>>(),
        [16, 16, 16, 4]
    );
    assert_eq!(pool.supplied.get(), 0);
    assert!(pool.is_short());
    drop(pieces);
    assert_eq!(pool.supplied.get(), 4);
    assert!(!pool.is_short());
}

#[test]
fn a_buffer_that_is_filled_piece_by_piece_stays_with_the_kernel() {
    let pool = Pool::with_ring(SHAPE).unwrap();
    let unfinished = |len| Provided {
        buffer: 0,
        len,
        unfinished: true,
    };
    let first = lend(&pool, unfinished(6));
    let second = lend(&pool, unfinished(4));
    let distance = second[0].as_ptr() as usize - first[0].as_ptr() as usize;
    assert_eq!(distance, 6);
    drop((first, second));
    assert_eq!(pool.supplied.get(), 4, "the kernel has not finished it");
    let third = lend(&pool, provided(0, 6));
    assert_eq!(pool.supplied.get(), 3);
    drop(third);
    assert_eq!(pool.supplied.get(), 4);
}

#[test]
fn nonsense_of_the_kernel_stays_inside_the_pool() {
    let pool = Pool::with_ring(SHAPE).unwrap();
    assert!(lend(&pool, provided(9, 4)).is_empty());
    let pieces = lend(&pool, provided(0, u32::MAX));
    assert_eq!(pieces.iter().map(|p| p.len()).sum::<usize>(), 64);
}

#[test]
fn memory_of_its_own_is_a_piece_too() {
    let mut piece = Lent::private(b"hello".to_vec());
    piece.advance(1);
    assert_eq!(&*piece, b"ello");
    piece.advance(10);
    assert!(piece.is_empty());
}
