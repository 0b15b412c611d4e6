//! Makes a ring with what the kernel has, and finds out what that is.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, Probe, opcode, types};

use crate::reactor::features::{DriverKind, Feature, Features};
use crate::reactor::pool::{Pool, Shape};

use super::encode::{GROUP, Style};
use super::enter::Entrance;

/// What is wanted of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Submission entries; completions are four times as many.
    pub(crate) entries: u32,
    pub(crate) pool: Shape,
    /// Whether buffers are to be filled piece by piece where the kernel can.
    pub(crate) incremental: bool,
    /// How long network queues are polled before sleeping, in µs; 0: not at all.
    pub(crate) napi_us: u32,
}

/// A ring that is ready.
pub(super) struct Made {
    pub(super) ring: IoUring,
    pub(super) entrance: Entrance,
    pub(super) pool: std::rc::Rc<Pool>,
    pub(super) features: Features,
    pub(super) style: Style,
}

/// Why there is no io_uring here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("io_uring_setup(2) failed: {0}{hint}", hint = hint(.0))]
    Setup(io::Error),
    #[error("the kernel lacks {0} (Linux 6.0)")]
    Lacks(&'static str),
    #[error("{0} failed: {1}")]
    Call(&'static str, io::Error),
}

/// What an operator can do about a refused io_uring.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "; see sysctl kernel.io_uring_disabled, and the seccomp profile of the container"
        }
        Some(libc::ENOSYS) => "; the kernel is built without it, or a seccomp filter hides it",
        Some(libc::ENOMEM) => "; raise the limit of locked memory (ulimit -l)",
        _ => "",
    }
}

pub(super) fn make(wish: Wish) -> Result<Made, Unusable> {
    let mut features = Features::new(DriverKind::IoUring);
    features.on(Feature::IoUring);
    let ring = build(wish.entries, &mut features)?;
    probe(&ring, &mut features)?;
    let entrance = match Entrance::registered(&ring) {
        Ok(entrance) => {
            features.on(Feature::RegisteredRing);
            entrance
        }
        Err(error) => {
            features.off(Feature::RegisteredRing, error.to_string());
            Entrance::plain(&ring)
        }
    };
    let pool = provide(&ring, wish, &mut features)?;
    check_multishot(&ring, &entrance, &mut features)?;
    let bundles =
        !features.has(Feature::IncrementalBuffers) && ring.params().is_feature_recvsend_bundle();
    if bundles {
        features.on(Feature::Bundles);
    } else if ring.params().is_feature_recvsend_bundle() {
        features.off(Feature::Bundles, "buffers are incremental");
    } else {
        features.off(Feature::Bundles, "the kernel lacks them (Linux 6.10)");
    }
    busy_poll(&ring, wish.napi_us, &mut features);
    features.off(
        Feature::DirectDescriptors,
        "sockets keep their numbers: options, sendfile and hand-over need them",
    );
    Ok(Made {
        ring,
        entrance,
        pool,
        features,
        style: Style { bundles },
    })
}

/// The most that the kernel takes, from the newest set of flags down.
fn build(entries: u32, features: &mut Features) -> Result<IoUring, Unusable> {
    let mut builder = IoUring::builder();
    builder
        .setup_cqsize(entries * 4)
        .setup_clamp()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_defer_taskrun();
    let first = match builder.build(entries) {
        Ok(ring) => {
            for feature in [
                Feature::SingleIssuer,
                Feature::DeferTaskrun,
                Feature::CoopTaskrun,
            ] {
                features.on(feature);
            }
            return Ok(ring);
        }
        Err(error) => error,
    };
    if first.raw_os_error() != Some(libc::EINVAL) {
        return Err(Unusable::Setup(first));
    }
    features.off(Feature::DeferTaskrun, "the kernel lacks it (Linux 6.1)");
    features.off(Feature::SingleIssuer, "serves deferred task work only");
    let ring = IoUring::builder()
        .setup_cqsize(entries * 4)
        .setup_clamp()
        .setup_submit_all()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries)
        .map_err(Unusable::Setup)?;
    features.on(Feature::CoopTaskrun);
    Ok(ring)
}

/// Asks for operations by number.
fn probe(ring: &IoUring, features: &mut Features) -> Result<(), Unusable> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| Unusable::Call("IORING_REGISTER_PROBE", error))?;
    for (feature, code, since) in [
        (Feature::ZeroCopySend, opcode::SendZc::CODE, "6.0"),
        (Feature::MessageRing, opcode::MsgRingData::CODE, "5.18"),
        (Feature::LinkedTimeout, opcode::LinkTimeout::CODE, "5.5"),
        (Feature::FutexWait, opcode::FutexWait::CODE, "6.7"),
    ] {
        if probe.is_supported(code) {
            features.on(feature);
        } else {
            features.off(feature, format!("the kernel lacks it (Linux {since})"));
        }
    }
    // Multishot accept came with the operation that makes sockets, in 5.19.
    if !probe.is_supported(opcode::Socket::CODE) {
        return Err(Unusable::Lacks("multishot accept"));
    }
    features.on(Feature::MultishotAccept);
    if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
        return Err(Unusable::Lacks("waiting with a time limit"));
    }
    Ok(())
}

/// Registers the pool's buffers.
fn provide(
    ring: &IoUring,
    wish: Wish,
    features: &mut Features,
) -> Result<std::rc::Rc<Pool>, Unusable> {
    /// `IOU_PBUF_RING_INC`
    const INCREMENTAL: u16 = 2;
    let pool = Pool::with_ring(wish.pool).map_err(|error| Unusable::Call("mmap(2)", error))?;
    let Some(buffers) = pool.ring() else {
        return Err(Unusable::Lacks("rings of provided buffers"));
    };
    let (address, entries) = buffers.registration();
    let register = |flags| {
        // SAFETY: the memory is the pool's, which is kept as long as the ring and longer.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, entries, GROUP, flags)
        }
    };
    if wish.incremental {
        match register(INCREMENTAL) {
            Ok(()) => {
                features.on(Feature::BufferRing);
                features.on(Feature::IncrementalBuffers);
                return Ok(pool);
            }
            Err(error) => features.off(
                Feature::IncrementalBuffers,
                format!("the kernel lacks them (Linux 6.12): {error}"),
            ),
        }
    } else {
        features.off(Feature::IncrementalBuffers, "not asked for");
    }
    register(0).map_err(|error| Unusable::Call("IORING_REGISTER_PBUF_RING", error))?;
    features.on(Feature::BufferRing);
    Ok(pool)
}

/// Whether one receive is good for two messages: nothing but trying tells.
fn check_multishot(
    ring: &IoUring,
    entrance: &Entrance,
    features: &mut Features,
) -> Result<(), Unusable> {
    let call = |error: io::Error| Unusable::Call("trying a multishot receive", error);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(call)?;
    // The end of the stream ends the request, without taking a buffer.
    drop(theirs);
    let entry = opcode::RecvMulti::new(types::Fd(ours.as_raw_fd()), GROUP).build();
    // SAFETY: the request has no memory of its own, and is over when this function returns.
    unsafe { ring.submission_shared().push(&entry) }.map_err(|_| {
        Unusable::Call(
            "trying a multishot receive",
            io::ErrorKind::WouldBlock.into(),
        )
    })?;
    entrance.enter(ring, 1, None).map_err(call)?;
    // SAFETY: this function is the only one that has the completion queue.
    let result = unsafe { ring.completion_shared() }
        .next()
        .map(|completion| completion.result());
    match result {
        Some(0) => {
            features.on(Feature::MultishotReceive);
            Ok(())
        }
        _ => Err(Unusable::Lacks("multishot receive")),
    }
}

fn busy_poll(ring: &IoUring, us: u32, features: &mut Features) {
    if us == 0 {
        features.off(Feature::NapiBusyPoll, "not asked for");
        return;
    }
    let mut napi = types::Napi::new().set_busy_poll_timeout(us);
    match ring.submitter().register_napi(&mut napi) {
        Ok(()) => features.on(Feature::NapiBusyPoll),
        Err(error) => features.off(Feature::NapiBusyPoll, error.to_string()),
    }
}
