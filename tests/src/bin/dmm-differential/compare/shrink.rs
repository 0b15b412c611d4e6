//! From a sequence that differs to the few ops that make it differ.

use super::{Difference, Pair};

/// Takes ops away as long as the two sides still differ: in halves first, then in ever smaller runs
/// (Zeller's ddmin). A difference that does not show alone is left as it is.
pub(super) fn shrink(pair: &Pair<'_>, mut difference: Difference) -> Result<Difference, String> {
    if difference.since != difference.seed {
        return Ok(difference);
    }
    let mut size = difference.kept.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < difference.kept.len() {
            let end = (at + size).min(difference.kept.len());
            let fewer = [&difference.kept[..at], &difference.kept[end..]].concat();
            if fewer.is_empty() {
                break;
            }
            match pair.differ(difference.seed, &fewer)? {
                Some((plain, preloaded)) => {
                    difference = Difference {
                        kept: fewer,
                        plain,
                        preloaded,
                        ..difference
                    };
                }
                None => at = end,
            }
        }
        size /= 2;
    }
    Ok(difference)
}
