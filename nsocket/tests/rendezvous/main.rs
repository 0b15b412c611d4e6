//! Two programs meet: the honest way, with a hostile one at either end, and where they must not.

mod hostile;
mod meeting;
mod scope;
mod support;
