//! Writes what a configuration means as a policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use super::{
    ImportNote, Imported, Source,
    document::{Modules, Routes, is_kernel},
};
use crate::parse::{MAX_STACKS, Prefix};

/// What the C DMM sends to the kernel unless an `ip_route` says otherwise.
const KERNELS_OWN: [Ipv4Addr; 2] = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];

pub(super) fn policy(modules: &Modules, routes: &Routes, mut notes: Vec<ImportNote>) -> Imported {
    let names = Names::new(modules, routes, &mut notes);
    let mut toml = String::from(
        "# Translated from a configuration of the C DMM (rd_config.json, module_config.json).\n",
    );
    for note in &notes {
        let line = format!("{}:{}: {}", note.source, note.line, note.message);
        let _ = writeln!(toml, "# {}", one_line(&line));
    }
    for (stack, library) in &names.stacks {
        let _ = write!(toml, "\n[stack.{stack}]\ntype = \"plugin\"");
        if let Some(library) = library {
            let _ = write!(toml, "    # was {}", one_line(library));
        }
        toml.push('\n');
    }
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    for (kind, stack) in &routes.types {
        // The last of equal ones counts.
        types.insert(kind.name(), names.of(stack));
    }
    for (kind, stack) in types {
        let name = format!("prot_route: {kind} sockets");
        let matching = format!("family = \"inet\", type = \"{kind}\"");
        rule(&mut toml, &name, &matching, stack);
    }
    let subnets = longest_first(routes, &names);
    for key in ["local", "remote"] {
        for (prefix, stack) in &subnets {
            let name = format!("ip_route {prefix}, {key}");
            rule(&mut toml, &name, &format!("{key} = \"{prefix}\""), stack);
        }
    }
    let default = modules
        .default
        .as_deref()
        .map_or("kernel", |name| names.of(name));
    let _ = write!(toml, "\n[default]\nstack = [\"{default}\"]\n");
    Imported { toml, notes }
}

fn rule(toml: &mut String, name: &str, matching: &str, stack: &str) {
    let _ = write!(
        toml,
        "\n[[rule]]\nname = \"{name}\"\nmatch = {{ {matching} }}\nstack = [\"{stack}\"]\n"
    );
}

/// The subnets by decreasing length of prefix; of equal ones the last.
fn longest_first<'a>(routes: &Routes, names: &'a Names) -> Vec<(Prefix, &'a str)> {
    let mut subnets: Vec<(Prefix, &str)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let own = KERNELS_OWN.map(|address| (Prefix::V4(address, 32), "kernel"));
    let routes = routes
        .subnets
        .iter()
        .map(|(prefix, stack)| (*prefix, names.of(stack)));
    for (prefix, stack) in own.into_iter().chain(routes) {
        match places.get(&prefix.to_string()) {
            Some(place) => subnets[*place].1 = stack,
            None => {
                places.insert(prefix.to_string(), subnets.len());
                subnets.push((prefix, stack));
            }
        }
    }
    subnets.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length()));
    subnets
}

/// How the names of stacks in the configuration are written in the policy.
struct Names {
    /// Stacks other than the kernel, in order, with their libraries.
    stacks: Vec<(String, Option<String>)>,
    written: BTreeMap<String, String>,
}

impl Names {
    fn new(modules: &Modules, routes: &Routes, notes: &mut Vec<ImportNote>) -> Self {
        let mut names = Self {
            stacks: Vec::new(),
            written: BTreeMap::new(),
        };
        for (name, library) in &modules.others {
            names.add(name, library.clone(), notes);
        }
        // Older files call the first user-space stack `nstack-dpdk` whatever its module is named.
        if let [(only, _)] = modules.others.as_slice()
            && let Some(written) = names.written.get(only).cloned()
        {
            names
                .written
                .entry("nstack-dpdk".to_owned())
                .or_insert(written);
        }
        let used = routes.subnets.iter().map(|(_, stack)| stack);
        let used = used
            .chain(routes.types.iter().map(|(_, stack)| stack))
            .chain(&modules.default);
        for name in used.collect::<BTreeSet<_>>() {
            names.add(name, None, notes);
        }
        names
    }

    fn of(&self, name: &str) -> &str {
        self.written.get(name).map_or("kernel", String::as_str)
    }

    fn add(&mut self, name: &str, library: Option<String>, notes: &mut Vec<ImportNote>) {
        if is_kernel(name) || self.written.contains_key(name) {
            return;
        }
        let mut written: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .take(28)
            .collect();
        let taken = |written: &str, stacks: &[(String, Option<String>)]| {
            matches!(written, "" | "kernel") || stacks.iter().any(|(known, _)| known == written)
        };
        if taken(&written, &self.stacks) {
            written = (2..)
                .map(|number| {
                    format!(
                        "{}-{number}",
                        if written.is_empty() {
                            "stack"
                        } else {
                            &written
                        }
                    )
                })
                .find(|candidate| !taken(candidate, &self.stacks))
                .unwrap_or_default();
        }
        if self.stacks.len() + 2 > MAX_STACKS {
            notes.push(ImportNote {
                source: Source::RdConfig,
                line: 1,
                column: 1,
                message: format!(
                    "the stack `{}` is one too many; its routes go to the kernel",
                    name.escape_debug()
                ),
            });
            return;
        }
        self.written.insert(name.to_owned(), written.clone());
        self.stacks.push((written, library));
    }
}

/// A text that is safe in a comment.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
