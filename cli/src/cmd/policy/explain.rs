//! `dmm policy explain`: which rule and stack a socket would get, and why not another.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use dmm_policy::{Explanation, Image, Key, Matcher, Process, Role, RuleId, RuleRef};
use serde::Serialize;

use super::subject::{ProcessArgs, SocketArgs};
use crate::Error;
use crate::machine::stack::Trial;
use crate::output::{BAD, BOLD, DIM, GOOD, NAME, Out, Styled, WARN};
use crate::policy_file::PolicyFile;

const EXAMPLES: &str = "\
Examples:
  dmm policy explain my.toml --program redis-server connect tcp 10.1.2.3:6379
  dmm policy explain my.toml --program nginx --user www-data listen tcp 0.0.0.0:80
  dmm policy explain my.toml datagram udp 10.0.0.53:53
  dmm policy explain my.toml --pid 4711 connect tcp '[2001:db8::1]:443'

The candidates are tried on this machine and for this user: a socket is made, given to the
instance, and closed; nothing is bound or sent.";

/// Say which rule and stack a socket would get, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The policy; - is the standard input.
    file: PathBuf,

    #[command(flatten)]
    socket: SocketArgs,

    #[command(flatten)]
    process: ProcessArgs,
}

/// The answer for `--json`.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    /// The first candidate that takes it, other than beside the next one.
    carried_by: Option<&'a str>,
    /// How the candidates took to it, in their order.
    trials: &'a [Trial],
}

/// Prints the answer.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    let file = PolicyFile::read(&args.file)?;
    let policy = file.usable(out)?;
    let (process, uid) = args.process.process()?;
    let key = args.socket.key(uid)?;
    let explanation = dmm_policy::explain(policy, &process, &key);
    let matcher = Matcher::new(policy.compile(), process);
    agree(&matcher, &key, &explanation)?;
    let trials: Vec<Trial> = explanation
        .candidates
        .iter()
        .map(|candidate| Trial::run(matcher.image().stack(candidate.stack), &key))
        .collect();
    let carried_by = trials
        .iter()
        .position(|trial| trial.carries && !trial.beside)
        .map(|i| &*explanation.candidates[i].name);
    let answer = Answer {
        explanation: &explanation,
        carried_by,
        trials: &trials,
    };
    if out.is_json() {
        out.json(&answer)?;
    } else {
        print(&answer, matcher.image(), out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The explanation reads the rules one by one; programs use the compiled form. Should the two ever
/// differ, the operator must not be told the wrong one.
fn agree(matcher: &Matcher, key: &Key, explanation: &Explanation) -> Result<(), Error> {
    let decision = matcher.lookup(key);
    let stacks = explanation
        .candidates
        .iter()
        .map(|candidate| candidate.stack);
    if decision.rule == explanation.rule.id && decision.stacks().eq(stacks) {
        return Ok(());
    }
    let rule = matcher.image().rule(decision.rule);
    Err(Error::not_so(format!(
        "the compiled policy answers with '{}', the rules read one by one with '{}'",
        rule.name, explanation.rule.name
    ))
    .help("this is a mistake in dmm: please report it with the policy file"))
}

fn print(answer: &Answer<'_>, image: &Image, out: &mut Out) -> Result<(), Error> {
    let explanation = answer.explanation;
    writeln!(out, "{}", Styled(sentence(explanation), BOLD))?;
    writeln!(out)?;
    print_rule(explanation, out)?;
    for class in &explanation.class_rules {
        let at = place(explanation, class);
        writeln!(out, "class    set on the way by {} ({at})", class.name)?;
    }
    if let Some(qos) = &explanation.qos {
        match &explanation.class_from {
            Some(from) => writeln!(out, "class    {qos} (first from {from})")?,
            None => writeln!(out, "class    {qos}")?,
        }
    }
    print_candidates(answer, image, out)?;
    print_misses(explanation, out)
}

fn print_rule(explanation: &Explanation, out: &mut Out) -> Result<(), Error> {
    let rule = &explanation.rule;
    writeln!(
        out,
        "rule     {}  {}",
        Styled(&rule.name, NAME),
        Styled(place(explanation, rule), DIM)
    )?;
    for condition in &rule.conditions {
        writeln!(
            out,
            "           {} = {}",
            condition.key,
            condition.values.join(", ")
        )?;
    }
    if let Some(note) = &rule.note {
        writeln!(out, "           note: {note}")?;
    }
    Ok(())
}

fn print_candidates(answer: &Answer<'_>, image: &Image, out: &mut Out) -> Result<(), Error> {
    let mut open = true;
    for (candidate, trial) in answer.explanation.candidates.iter().zip(answer.trials) {
        let (word, style) = match (trial.carries, open) {
            (true, true) if trial.beside => ("serves it too, beside the next one", GOOD),
            (true, true) => ("carries it", GOOD),
            (true, false) => ("would carry it", DIM),
            (false, _) => ("is passed over", BAD),
        };
        open &= !trial.carries || trial.beside;
        let what = describe(image, candidate.stack);
        writeln!(
            out,
            "stack    {}  {}  {}",
            Styled(&candidate.name, NAME),
            Styled(word, style),
            Styled(what, DIM)
        )?;
        for why in &trial.reasons {
            let errno = why
                .errno
                .as_ref()
                .map(|e| format!(" ({e})"))
                .unwrap_or_default();
            writeln!(
                out,
                "           {}: {}{errno}",
                Styled(why.reason.name(), WARN),
                why.text
            )?;
            if !why.remedy.is_empty() {
                writeln!(out, "           {}", why.remedy)?;
            }
        }
    }
    if answer.carried_by.is_none() {
        writeln!(
            out,
            "stack    {}: nothing in the list can carry it, and the rule forbids the fallback",
            Styled("none", BAD)
        )?;
    }
    Ok(())
}

fn print_misses(explanation: &Explanation, out: &mut Out) -> Result<(), Error> {
    if !explanation.near_misses.is_empty() {
        writeln!(out, "\nnear misses, of the rules before it")?;
    }
    for miss in &explanation.near_misses {
        writeln!(
            out,
            "  {}  {}",
            Styled(&miss.rule.name, NAME),
            Styled(place(explanation, &miss.rule), DIM)
        )?;
        for failure in &miss.failed {
            let found = failure.found.as_deref().unwrap_or("nothing");
            writeln!(
                out,
                "    {} wants {}, found {found}",
                failure.key,
                failure.wanted.join(", ")
            )?;
        }
    }
    if !explanation.too_late.is_empty() {
        writeln!(out, "\nmatching too, but later")?;
    }
    for rule in &explanation.too_late {
        writeln!(
            out,
            "  {}  {}",
            Styled(&rule.name, NAME),
            Styled(place(explanation, rule), DIM)
        )?;
    }
    Ok(())
}

/// `redis-server, uid 0, connects to 10.1.2.3:6379 (tcp)`.
fn sentence(explanation: &Explanation) -> String {
    let socket = &explanation.socket;
    let who = who(&socket.process);
    let address = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "anywhere".to_owned(), |address| address.to_string())
    };
    let what = match socket.role {
        Role::Listen => format!("listens on {}", address(socket.local)),
        Role::Connect => format!("connects to {}", address(socket.remote)),
        Role::Datagram => format!("sends datagrams to {}", address(socket.remote)),
    };
    format!("{who}, uid {}, {what} ({})", socket.uid, socket.protocol)
}

fn who(process: &Process) -> String {
    let name = if process.name.is_empty() {
        "some program"
    } else {
        &process.name
    };
    match process.label.as_str() {
        "" => name.to_owned(),
        label => format!("{name} [{label}]"),
    }
}

fn place(explanation: &Explanation, rule: &RuleRef) -> String {
    match (rule.id, rule.line) {
        (RuleId::DEFAULT, 0) => "no rule matches, and there is no [default] section".to_owned(),
        (_, line) => format!("{}:{line}", explanation.file),
    }
}

/// What tells an instance apart.
fn describe(image: &Image, id: dmm_policy::StackId) -> String {
    let def = image.stack(id);
    let mut parts = vec![def.kind.name().to_owned()];
    parts.extend(def.netns.map(|netns| format!("netns {netns}")));
    parts.extend(def.protocol.map(|protocol| protocol.name().to_owned()));
    parts.extend(def.congestion.map(str::to_owned));
    if !def.options.is_empty() {
        parts.push("options".to_owned());
    }
    parts.join(", ")
}
