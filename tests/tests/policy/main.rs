//! What a policy does to real programs: rules, instances and their options, namespaces, changes
//! while everything runs, and what the tools say of it.

mod instances;
mod live;
mod namespaces;
mod probe;
mod rules;
mod stats;
