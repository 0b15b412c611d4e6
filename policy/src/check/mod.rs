//! What a policy may say but surely does not mean.
//!
//! These checks look at a whole policy that has no errors. They find what is certain: a rule that is
//! said to be shadowed is, while one that several others shadow together is not found.

mod overlap;
mod relate;
mod shadow;
mod stacks;

use crate::{Policy, parse::Context};

/// Reports warnings and notes about a policy.
pub(crate) fn policy(policy: &Policy, context: &mut Context<'_>) {
    stacks::check(policy, context);
    let shadowed = shadow::check(policy, context);
    overlap::check(policy, &shadowed, context);
}
