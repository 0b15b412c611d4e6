//! Stacks that nobody uses, that nobody can use, or whose settings contradict each other.

use crate::{
    Policy, StackId,
    ast::{Condition, Match, Stack},
    key::{Role, SockType},
    parse::Context,
};

pub(super) fn check(policy: &Policy, context: &mut Context<'_>) {
    let lists = || {
        let rules = policy
            .rules()
            .iter()
            .map(|rule| (&rule.stacks, rule.fallback, &rule.place));
        let default = policy.default();
        rules.chain([(&default.stacks, default.fallback, &default.place)])
    };
    for (index, stack) in policy.stacks().iter().enumerate() {
        settings(stack, context);
        let id = StackId(index as u16);
        let used = index == 0 || lists().any(|(list, ..)| list.contains(&id));
        if !used && stack.place.line > 0 {
            context
                .warning(
                    "unused-stack",
                    stack.place.span.clone(),
                    format!("no rule uses the stack `{}`", stack.name),
                )
                .with_help("name it in the `stack` of a rule, or remove the section");
        }
    }
    for (list, fallback, place) in lists() {
        let runs = |id: &StackId| policy.stacks()[usize::from(id.0)].kind.in_this_build();
        if !fallback && !list.is_empty() && !list.iter().any(runs) {
            context
                .warning("no-stack-left", place.span.clone(), "sockets of this rule cannot be carried: this build has none of its stacks, and it forbids the fallback")
                .with_help("remove `fallback = false`, or add a stack of type `kernel`");
        }
    }
    for rule in policy.rules() {
        if let Some((condition, why)) = impossible(&rule.matching) {
            context
                .warning(
                    "never-matches",
                    condition.place.span.clone(),
                    format!("`{}` never matches: {why}", rule.name),
                )
                .with_help("remove one of the conditions that exclude each other");
        }
    }
}

/// Settings of one stack that do not go together.
fn settings(stack: &Stack, context: &mut Context<'_>) {
    let options = stack.options();
    let span = || stack.place.span.clone();
    if stack.netns.is_some() && stack.name == "kernel" {
        context
            .warning("contradiction", span(), "the stack `kernel` is where sockets fall back to, but it is put into a namespace of its own")
            .with_help("give the instance in the namespace another name");
    }
    if let (Some(device), Some(netns)) = (options.device, &stack.netns) {
        context
            .note(
                "device-in-netns",
                span(),
                format!("the device `{device}` has to exist inside the namespace `{netns}`"),
            )
            .with_help(format!("see: ip -n {netns} link show {device}"));
    }
    let probing = options.keepalive_idle_s.is_some()
        || options.keepalive_interval_s.is_some()
        || options.keepalive_count.is_some();
    if options.keepalive == Some(false) && probing {
        context
            .warning("contradiction", span(), format!("stack `{}` switches keepalive off and sets its times", stack.name))
            .with_help("write keepalive = true, or remove keepalive_idle, keepalive_interval and keepalive_count");
    }
    if options.nodelay == Some(true) && options.notsent_lowat == Some(0) {
        context
            .warning(
                "contradiction",
                span(),
                format!(
                    "stack `{}`: with notsent_lowat = 0 a socket is hardly ever writable",
                    stack.name
                ),
            )
            .with_help("write a size such as \"16KiB\"");
    }
}

/// The condition of a rule that no socket fulfils together with the others.
fn impossible(rule: &Match) -> Option<(&Condition, &'static str)> {
    let condition = |key: &str| {
        rule.conditions
            .iter()
            .find(|condition| condition.key == key)
    };
    let only = |role: Role| {
        rule.role
            .as_ref()
            .is_some_and(|roles| roles.iter().all(|one| *one == role))
    };
    if only(Role::Listen)
        && let Some(found) = condition("remote").or_else(|| condition("remote_port"))
    {
        return Some((found, "a listening socket has no remote address"));
    }
    let types = rule.sock_type.as_deref().unwrap_or_default();
    let all = |wanted: SockType| !types.is_empty() && types.iter().all(|one| *one == wanted);
    if all(SockType::Stream) && only(Role::Datagram) {
        return Some((condition("type")?, "a stream socket connects or listens"));
    }
    if all(SockType::Datagram) && (only(Role::Listen) || only(Role::Connect)) {
        return Some((
            condition("type")?,
            "the role of a datagram socket is `datagram`",
        ));
    }
    None
}
