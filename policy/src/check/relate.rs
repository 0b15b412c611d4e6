//! How the conditions of two rules relate.

use crate::{
    ast::Match,
    glob::Glob,
    ranges::{Ranges, Scalar},
};

/// Whether every socket that `inner` matches is known to be matched by `outer`, classes aside.
pub(super) fn covers(outer: &Match, inner: &Match) -> bool {
    list(&outer.role, &inner.role)
        && list(&outer.family, &inner.family)
        && list(&outer.sock_type, &inner.sock_type)
        && ranges(&outer.protocol, &inner.protocol)
        && both(
            &outer.remote,
            &inner.remote,
            super::super::ast::Addresses::covers,
        )
        && both(
            &outer.local,
            &inner.local,
            super::super::ast::Addresses::covers,
        )
        && ranges(&outer.port, &inner.port)
        && ranges(&outer.local_port, &inner.local_port)
        && ranges(&outer.remote_port, &inner.remote_port)
        && ranges(&outer.uid, &inner.uid)
        && globs(&outer.program, &inner.program)
        && globs(&outer.label, &inner.label)
        && globs(&outer.cgroup, &inner.cgroup)
}

/// Whether a socket may exist that both match, classes aside.
pub(super) fn overlap(a: &Match, b: &Match) -> bool {
    either(&a.role, &b.role, |a, b| shares(a, b))
        && either(&a.family, &b.family, |a, b| shares(a, b))
        && either(&a.sock_type, &b.sock_type, |a, b| shares(a, b))
        && either(&a.protocol, &b.protocol, Ranges::overlaps)
        && either(&a.remote, &b.remote, super::super::ast::Addresses::overlaps)
        && either(&a.local, &b.local, super::super::ast::Addresses::overlaps)
        && either(&a.port, &b.port, Ranges::overlaps)
        && either(&a.local_port, &b.local_port, Ranges::overlaps)
        && either(&a.remote_port, &b.remote_port, Ranges::overlaps)
        && either(&a.uid, &b.uid, Ranges::overlaps)
        && either(&a.program, &b.program, |a, b| globs_overlap(a, b))
        && either(&a.label, &b.label, |a, b| globs_overlap(a, b))
        && either(&a.cgroup, &b.cgroup, |a, b| globs_overlap(a, b))
}

/// A condition that is not there covers everything, and only such a one covers it.
fn both<T>(outer: &Option<T>, inner: &Option<T>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => covers(outer, inner),
    }
}

fn either<T>(a: &Option<T>, b: &Option<T>, overlaps: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => overlaps(a, b),
        _ => true,
    }
}

fn ranges<T: Scalar>(outer: &Option<Ranges<T>>, inner: &Option<Ranges<T>>) -> bool {
    both(outer, inner, Ranges::covers)
}

fn list<T: PartialEq>(outer: &Option<Vec<T>>, inner: &Option<Vec<T>>) -> bool {
    both(outer, inner, |outer, inner| {
        inner.iter().all(|one| outer.contains(one))
    })
}

fn globs(outer: &Option<Vec<Glob>>, inner: &Option<Vec<Glob>>) -> bool {
    both(outer, inner, |outer, inner| {
        inner
            .iter()
            .all(|one| outer.iter().any(|all| all.covers(one)))
    })
}

fn shares<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.iter().any(|one| b.contains(one))
}

fn globs_overlap(a: &[Glob], b: &[Glob]) -> bool {
    a.iter().any(|a| b.iter().any(|b| a.may_overlap(b)))
}
