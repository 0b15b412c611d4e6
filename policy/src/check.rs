//! What is allowed but surely not meant: shadowed rules, stacks that nobody uses.

use crate::{Policy, parse::Context};

pub(crate) fn policy(_policy: &Policy, _context: &mut Context<'_>) {}
