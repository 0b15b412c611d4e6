//! From TOML text to a checked policy: parse, don't validate.
//!
//! All findings of a text are reported in one go. A value that is wrong is reported and replaced by
//! something harmless so that reading can go on; since a policy is handed out only when there is no
//! error, none of these stand-ins gets any further.

mod context;
mod matching;
mod qos;
mod rule;
mod stack;
mod table;
mod values;

use toml::de::DeTable;

pub(crate) use context::Context;
pub(crate) use matching::protocol_name;
pub(crate) use values::Prefix;
pub use values::{format_bytes, format_dscp};

use crate::{Diagnostic, Policy, check};

/// Longest text of a policy, in bytes.
pub const MAX_TEXT: usize = 32 << 20;
/// Most rules in a policy.
pub const MAX_RULES: usize = 65_535;
/// Most stack instances in a policy, those that need no section included.
pub const MAX_STACKS: usize = 64;
/// Most quality-of-service classes in a policy.
pub const MAX_CLASSES: usize = 64;
/// Most rules that set a class and let the search go on.
pub const MAX_CLASS_RULES: usize = 64;
/// Most values in one condition.
pub const MAX_VALUES: usize = 4_096;

/// Most ranges (of addresses, ports, numbers) in all conditions of a policy together.
pub const MAX_RANGES: usize = 250_000;

/// What became of a text.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The policy; `None` if and only if one of the diagnostics is an error.
    pub policy: Option<Policy>,
    /// What there is to say, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a policy. User names in `match.user` are errors: this function asks nobody what their
/// numbers are; see [`parse_with`].
///
/// `file` is the name that diagnostics carry; nothing is read from it.
pub fn parse(text: &str, file: &str) -> Parsed {
    parse_with(text, file, &NoResolver)
}

/// Reads a policy, with somebody to ask for the numbers of users.
pub fn parse_with(text: &str, file: &str, resolver: &dyn Resolver) -> Parsed {
    finish(text, file, resolver, check::policy)
}

/// Reads a policy in order to use it, in a fraction of the time: finds every error, and leaves out
/// what [`parse_with`] says about a policy as a whole (shadowed rules, overlaps, unused stacks).
pub fn parse_quick(text: &str, file: &str, resolver: &dyn Resolver) -> Parsed {
    finish(text, file, resolver, |_, _| ())
}

fn finish(
    text: &str,
    file: &str,
    resolver: &dyn Resolver,
    check: impl Fn(&Policy, &mut Context<'_>),
) -> Parsed {
    let mut context = Context::new(text, file, resolver);
    let policy = read(&mut context).filter(|_| !context.has_errors());
    if let Some(policy) = &policy {
        check(policy, &mut context);
    }
    Parsed {
        policy,
        diagnostics: context.finish(),
    }
}

/// Who knows the numbers of users. The policy crate itself reads no file and asks no name service.
pub trait Resolver {
    /// The user id of a user name.
    ///
    /// # Errors
    /// [`ResolveError`], for the diagnostic.
    fn uid_of(&self, user: &str) -> Result<u32, ResolveError>;
}

/// Why a user name has no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such user.
    #[error("there is no user `{0}` on this host")]
    NoSuchUser(String),
    /// Nobody could be asked, for the reason given.
    #[error("user names cannot be looked up: {0}")]
    Unavailable(String),
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResolver;

impl Resolver for NoResolver {
    fn uid_of(&self, _user: &str) -> Result<u32, ResolveError> {
        Err(ResolveError::Unavailable(
            "no user database is at hand here".to_owned(),
        ))
    }
}

/// Knows the names in the text of a passwd(5) file.
#[derive(Clone, Copy, Debug)]
pub struct PasswdText<'a>(pub &'a str);

impl Resolver for PasswdText<'_> {
    fn uid_of(&self, user: &str) -> Result<u32, ResolveError> {
        self.0
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == user).then_some(())?;
                fields.nth(1)?.parse().ok()
            })
            .next()
            .ok_or_else(|| ResolveError::NoSuchUser(user.to_owned()))
    }
}

/// Reads the sections; the policy is usable only if no error was reported.
fn read(context: &mut Context<'_>) -> Option<Policy> {
    if context.text().len() > MAX_TEXT {
        context.error(
            "too-large",
            0..0,
            format!("the policy is longer than {MAX_TEXT} bytes"),
        );
        return None;
    }
    let text = context.text();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        context.syntax_error(&error);
    }
    let mut root = table::Table::new(document.get_ref(), "the policy");
    let stacks = root.take("stack");
    let classes = root.take("qos");
    let rules = root.take("rule");
    let default = root.take("default");
    root.finish(context);

    let mut policy = Policy::builtin();
    policy.file = context.file().to_owned();
    policy.text_hash = crate::text_hash(text);
    policy.stacks = stack::read(stacks, context);
    let rules = rule::tables(rules, context);
    policy.classes = qos::read(classes, &rules, context);
    rule::read(rules, &mut policy, context);
    rule::read_default(default, &mut policy, context);
    Some(policy)
}
