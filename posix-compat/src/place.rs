//! Binding a socket to a stack instance: the policy is asked, the preference list walked, and the
//! result recorded.

mod descriptor;
mod instance;
mod watches;

use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dmm_nsocket::Reason;
use dmm_nsocket::fresh::{Fresh, Origin};
use dmm_nsocket::stack::{self, PlaceError, Refusal, Request, Selected as Outcome, Stack};
use dmm_nsocket::stats::{
    Counter, OptionRefusal, PassedOver, Segment, Selected, Socket as Record, SocketRole,
};
use dmm_nsocket::table::Entry;
use dmm_policy::{Decision, Family, Key, Role, SockType, StackId};
use dmm_stack_kernel::Instance as Kernel;
use rustix::io::Errno;

use crate::policy::{self, Live};
use crate::process::{self, FRESH, TABLE};
use crate::{sandbox, track};
use descriptor::Descriptor;
use instance::Instance;

/// Stacks passed over that are remembered by name.
const TRAIL: usize = 6;

/// The program is about to make use of a fresh socket: binds it to a stack. Afterwards the
/// program's own call goes on, on whatever is under the descriptor then.
///
/// An error is the `errno` with which the program's call has to fail: no stack may carry the
/// socket, or it was lost on the way.
pub(crate) fn bind_to_stack(
    fd: c_int,
    role: Role,
    remote: Option<SocketAddr>,
) -> Result<(), c_int> {
    policy::refresh();
    guarded(|| settle(fd, role, remote))
}

/// The program is about to bind a fresh socket to an address, which does not decide yet. If another
/// kernel instance (in a namespace) would get it as things stand, it goes there now, so that the
/// address and the port are that instance's; which rule has it in the end is decided by `listen`,
/// `connect`, or the first datagram.
///
/// Says whether the socket is bound now: an instance binds its own to see whether it has the address.
pub(crate) fn prepare_bind(fd: c_int, local: SocketAddr) -> Result<bool, c_int> {
    policy::refresh();
    guarded(|| move_to_instance(fd, Some(local)))
}

/// A datagram socket is about to send without a destination. The call will fail, but the kernel gives
/// the socket a port: it must be that of the instance that would get it as things stand.
pub(crate) fn move_unaddressed(fd: c_int) -> Result<(), c_int> {
    policy::refresh();
    guarded(|| move_to_instance(fd, None).map(|_| ()))
}

/// A datagram socket is about to receive: one that can (it has a port) is a server's, and its local
/// address is all that a rule can go by.
pub(crate) fn receive_datagrams(fd: c_int) -> Result<(), c_int> {
    policy::refresh();
    guarded(|| match fresh_socket(fd) {
        Some(_) if bound_address(fd).is_some() => settle(fd, Role::Datagram, None),
        _ => Ok(()),
    })
}

/// Writes into a record that the socket is on the kernel as the process got it.
pub(crate) fn record_as_it_is(segment: &Segment, record: Record<'_>, role: SocketRole, rule: &str) {
    record.select(&Selected {
        role,
        rule: segment.rule(rule, 0),
        stack: segment.stack("kernel"),
        class: None,
        policy_hash: policy::identity().0,
        trail: &[],
        options_applied: 0,
        options_refused: &[],
    });
}

/// A fault of ours must not end the program: the kernel carries the socket then.
fn guarded<T: Default>(f: impl FnOnce() -> Result<T, c_int>) -> Result<T, c_int> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        track::count(Counter::UnmanagedFallbacks);
        Ok(T::default())
    })
}

fn settle(fd: c_int, role: Role, remote: Option<SocketAddr>) -> Result<(), c_int> {
    let Some((entry, fresh)) = fresh_socket(fd) else {
        return Ok(());
    };
    let mut descriptor = Descriptor::new(fd, entry, fresh);
    let key = key(fresh, role, bound_address(fd), remote);
    let decided = policy::with(|live| decide(live, &key, fresh.origin(), &mut descriptor));
    match decided {
        Some(Ok(())) | None => {
            descriptor.on_kernel();
            Ok(())
        }
        Some(Err(errno)) => Err(errno),
    }
}

/// The fresh socket under a descriptor; `None` if it is none, or not the one it was: a stale entry
/// is cleared, and the kernel has the last word.
fn fresh_socket(fd: c_int) -> Option<(Entry, &'static Fresh)> {
    let entry = TABLE.load(fd);
    if entry.state() != dmm_nsocket::table::State::Fresh {
        return None;
    }
    let fresh = FRESH.slot(entry.slot())?;
    if process::is_borrowed() || sandbox::is_entered() {
        return None;
    }
    if track::inode(fd) != fresh.identity() {
        track::forget(fd);
        return None;
    }
    Some((entry, fresh))
}

fn key(fresh: &Fresh, role: Role, local: Option<SocketAddr>, remote: Option<SocketAddr>) -> Key {
    let origin = fresh.origin();
    let family = if origin.domain == libc::AF_INET6 {
        Family::Inet6
    } else {
        Family::Inet
    };
    let (priority, dscp) = fresh
        .with(|details| {
            let options = &details.options;
            let priority = options.int(libc::SOL_SOCKET, libc::SO_PRIORITY);
            let tos = options
                .int(libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
                .filter(|_| family == Family::Inet6)
                .or_else(|| options.int(libc::IPPROTO_IP, libc::IP_TOS));
            (priority, tos)
        })
        .unwrap_or((None, None));
    Key {
        role,
        family,
        sock_type: match origin.kind {
            libc::SOCK_STREAM => SockType::Stream,
            libc::SOCK_DGRAM => SockType::Datagram,
            libc::SOCK_SEQPACKET => SockType::SeqPacket,
            _ => SockType::Raw,
        },
        protocol: protocol(origin),
        local,
        remote,
        uid: rustix::process::geteuid().as_raw(),
        priority: priority.map(|priority| priority as u32),
        dscp: dscp.map(|tos| (tos as u8) >> 2),
    }
}

/// The protocol's number, with the type's default filled in.
fn protocol(origin: Origin) -> u16 {
    match (origin.protocol, origin.kind) {
        (0, libc::SOCK_STREAM) => libc::IPPROTO_TCP as u16,
        (0, libc::SOCK_DGRAM) => libc::IPPROTO_UDP as u16,
        (protocol, _) => protocol as u16,
    }
}

fn request<'a>(key: &'a Key, origin: Origin) -> Request<'a> {
    Request {
        key,
        domain: origin.domain,
        kind: origin.kind,
        protocol: origin.protocol,
    }
}

/// Walks the preference list and records the result.
fn decide(
    live: &Live,
    key: &Key,
    origin: Origin,
    descriptor: &mut Descriptor,
) -> Result<(), c_int> {
    let image = live.matcher.image();
    let decision = live.matcher.lookup(key);
    let mut trail = Trail::new();
    let mut joined = [0; 64];
    let mut beside = None;
    let outcome = stack::select(
        candidates(live, &decision),
        &request(key, origin),
        descriptor,
        |i, _, refusal| trail.add(nth_name(live, &decision, i), refusal),
        |i, _| {
            beside.get_or_insert_with(|| nth_name(live, &decision, i));
        },
    );
    let name = match outcome {
        Outcome::On(i, _) => Some(nth_name(live, &decision, i)),
        // Sessions alone: the kernel keeps the port, and its connections are turned away.
        Outcome::None if beside.is_some() && !decision.fallback => {
            descriptor.serves(true);
            beside
        }
        Outcome::None if decision.fallback => {
            // Not even the kernel with the options that the policy gives it: the kernel without.
            let kernel = image.stack(StackId(0));
            let bare = Kernel::bare(kernel);
            match bare.place(&request(key, origin), descriptor) {
                Ok(_) => {}
                Err(PlaceError::Refused(refusal)) => trail.add(kernel.name, refusal),
                Err(PlaceError::Failed(errno)) => return Err(errno.raw_os_error()),
            }
            Some(kernel.name)
        }
        Outcome::None => None,
        Outcome::Failed(errno) => return Err(errno.raw_os_error()),
    };
    if beside.is_some() && name.is_some() && !descriptor.is_served() {
        descriptor.serves(false);
    }
    let name = match (name, beside) {
        (Some(name), Some(beside)) if name != beside => Some(join(&mut joined, name, beside)),
        (name, _) => name,
    };
    record(live, key, &decision, name, &trail, descriptor);
    match name {
        Some(_) => Ok(()),
        None => Err(nobody(key.role)),
    }
}

/// The name of what carries a listener that several stacks serve.
fn join<'a>(buffer: &'a mut [u8; 64], name: &'a str, beside: &str) -> &'a str {
    let whole = name.len() + 1 + beside.len();
    let Some(place) = buffer.get_mut(..whole) else {
        return name;
    };
    place[..name.len()].copy_from_slice(name.as_bytes());
    place[name.len()] = b'+';
    place[name.len() + 1..].copy_from_slice(beside.as_bytes());
    std::str::from_utf8(place).unwrap_or(name)
}

fn candidates<'p>(live: &'p Live, decision: &Decision<'p>) -> impl Iterator<Item = Instance<'p>> {
    let image = live.matcher.image();
    decision
        .stacks()
        .map(move |id| Instance::new(image.stack(id)))
}

fn nth_name<'p>(live: &'p Live, decision: &Decision<'p>, i: usize) -> &'p str {
    let id = decision.stacks().nth(i).unwrap_or(StackId(0));
    live.matcher.image().stack(id).name
}

/// What a program is told when its rule forbids the kernel and nothing else carries the socket.
fn nobody(role: Role) -> c_int {
    match role {
        Role::Listen => libc::EADDRNOTAVAIL,
        Role::Connect | Role::Datagram => libc::ENETUNREACH,
    }
}

fn record(
    live: &Live,
    key: &Key,
    decision: &Decision<'_>,
    name: Option<&str>,
    trail: &Trail<'_>,
    descriptor: &Descriptor,
) {
    let Some(segment) = process::segment() else {
        return;
    };
    let rule = live.matcher.image().rule(decision.rule);
    if rule.dump_on_signal {
        crate::dump::arm();
    }
    let rule_name = segment.rule(rule.name, rule.line);
    let Some(name) = name else {
        segment.add(Counter::SelectionsFailed, 1);
        segment.rule_failed(rule_name);
        return;
    };
    let mut passed = [PassedOver {
        stack: segment.stack(name),
        reason: Reason::SystemError,
        errno: 0,
    }; TRAIL];
    let passed = trail.resolve(segment, &mut passed);
    let refused = descriptor.noted().map(|note| OptionRefusal {
        level: note.level,
        option: note.option,
        errno: note.errno.raw_os_error(),
    });
    if refused.is_some() {
        segment.add(Counter::PolicyOptionsRefused, 1);
    }
    descriptor.each_record(|record| {
        record.select(&Selected {
            role: match key.role {
                Role::Listen => SocketRole::Listen,
                Role::Connect => SocketRole::Connect,
                Role::Datagram => SocketRole::Datagram,
            },
            rule: rule_name,
            stack: segment.stack(name),
            class: decision.qos.map(|class| segment.class(class)),
            policy_hash: live.matcher.image().text_hash(),
            trail: passed,
            options_applied: descriptor.options_applied(),
            options_refused: refused.as_slice(),
        });
        if let Some(local) = key.local {
            record.local(local);
        }
    });
}

/// The instances that were passed over.
struct Trail<'p> {
    passed: [(&'p str, Refusal); TRAIL],
    count: usize,
}

impl<'p> Trail<'p> {
    fn new() -> Self {
        Self {
            passed: [("", Refusal::new(Reason::SystemError)); TRAIL],
            count: 0,
        }
    }

    fn add(&mut self, name: &'p str, refusal: Refusal) {
        if let Some(place) = self.passed.get_mut(self.count) {
            *place = (name, refusal);
            self.count += 1;
        }
    }

    fn resolve<'a>(
        &self,
        segment: &Segment,
        into: &'a mut [PassedOver; TRAIL],
    ) -> &'a [PassedOver] {
        for (place, (name, refusal)) in into.iter_mut().zip(&self.passed[..self.count]) {
            *place = PassedOver {
                stack: segment.stack(name),
                reason: refusal.reason,
                errno: refusal.errno.map_or(0, Errno::raw_os_error),
            };
        }
        &into[..self.count]
    }
}

/// The local address of a socket, if it is bound.
fn bound_address(fd: c_int) -> Option<SocketAddr> {
    // SAFETY: a descriptor of the program's, borrowed for the call.
    descriptor::bound_address(unsafe { BorrowedFd::borrow_raw(fd) })
}

fn move_to_instance(fd: c_int, local: Option<SocketAddr>) -> Result<bool, c_int> {
    let Some((entry, fresh)) = fresh_socket(fd) else {
        return Ok(false);
    };
    if bound_address(fd).is_some() {
        // The kernel will say so.
        return Ok(false);
    }
    let mut descriptor = Descriptor::new(fd, entry, fresh);
    // With a port it is most likely a server; without, a client that chooses its address.
    let role = match (entry.has(Entry::DATAGRAM), local.map(|local| local.port())) {
        (true, _) => Role::Datagram,
        (false, None | Some(0)) => Role::Connect,
        (false, Some(_)) => Role::Listen,
    };
    let key = key(fresh, role, local, None);
    let moved = policy::with(|live| {
        let decision = live.matcher.lookup(&key);
        let request = request(&key, fresh.origin());
        for instance in candidates(live, &decision) {
            // A session has no address before it is connected.
            if instance.is_local() || instance.admit(&request).is_err() {
                continue;
            }
            // Also where the socket stays: an option may matter to bind(2) (IP_FREEBIND).
            match instance.place(&request, &mut descriptor) {
                Ok(_) => return Ok(()),
                Err(PlaceError::Refused(_)) => {}
                Err(PlaceError::Failed(errno)) => return Err(errno.raw_os_error()),
            }
        }
        Ok(())
    });
    moved.unwrap_or(Ok(()))?;
    Ok(bound_address(fd).is_some())
}
