//! Compiles a policy into an image that is searched in the same short time whatever the rules are.
//!
//! First match over many conditions at once is packet classification, and the structure is the
//! bit-vector one of that field: each dimension of a key (shape, protocol, ports, addresses, ...)
//! cuts its values into intervals, and each interval has the *set* of rules that do not exclude it.
//! A lookup finds one set a dimension, by binary search, and walks through the sets side by side
//! until a rule is in all of them: the first one found is the first match.
//!
//! Written out, the sets would take rules times intervals bits. But neighbouring intervals differ by
//! the rules that begin or end between them, so sets are trees that share what is equal: a set is a
//! few *nodes*, a node 16 *leaves*, a leaf 512 rules, each stored once. One more boundary costs one
//! leaf, one node and one set at most, and the numbers [`NONE`] and [`ALL`] let the walk skip 512 or
//! 8192 rules without looking.

mod builder;
mod search;
mod sets;

pub(crate) use search::{Dimensions, shape_index};

use crate::{Image, Policy};
use builder::Builder;

impl Policy {
    /// Compiles the policy. The image depends on nothing but the policy, so equal texts give equal
    /// images.
    pub fn compile(&self) -> Image {
        let mut builder = Builder::default();
        self.stacks.iter().for_each(|stack| builder.stack(stack));
        self.classes.iter().for_each(|class| builder.class(class));
        for (index, rule) in self.rules.iter().enumerate() {
            builder.rule(rule);
            builder.process_conditions(index, &rule.matching);
        }
        builder.default_rule(&self.default);
        builder.search(&Dimensions::of(self));
        builder.finish(self.text_hash, self.rules.len())
    }
}
