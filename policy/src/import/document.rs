//! Reads the two files into what they mean.

use std::net::IpAddr;

use super::{
    ImportError, ImportNote, Source,
    json::{self, Json, Member, Node},
};
use crate::{SockType, diagnostic::Lines, parse::Prefix};

/// `module_config.json`.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) default: Option<String>,
    /// Names of stacks other than the kernel, with the library that registers them.
    pub(super) others: Vec<(String, Option<String>)>,
}

/// `rd_config.json`.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) subnets: Vec<(Prefix, String)>,
    pub(super) types: Vec<(SockType, String)>,
}

/// Whether a name means the kernel's stack.
pub(super) fn is_kernel(name: &str) -> bool {
    matches!(name, "kernel" | "nstack-kernel")
}

pub(super) fn modules(text: &str, notes: &mut Vec<ImportNote>) -> Result<Modules, ImportError> {
    let mut file = File::new(text, Source::ModuleConfig, notes);
    let mut modules = Modules::default();
    for member in file.document()? {
        match member.key.as_str() {
            "default_stack_name" => modules.default = Some(file.scalar(&member.node)?.to_owned()),
            "module_list" => {
                for node in file.array(&member.node)? {
                    let module = file.module(node)?;
                    modules
                        .others
                        .extend(module.filter(|(name, _)| !is_kernel(name)));
                }
            }
            _ => file.unknown(&member),
        }
    }
    Ok(modules)
}

pub(super) fn routes(text: &str, notes: &mut Vec<ImportNote>) -> Result<Routes, ImportError> {
    let mut file = File::new(text, Source::RdConfig, notes);
    let mut routes = Routes::default();
    for member in file.document()? {
        match member.key.as_str() {
            "ip_route" => {
                for node in file.array(&member.node)? {
                    routes.subnets.extend(file.ip_route(node)?);
                }
            }
            "prot_route" => {
                for node in file.array(&member.node)? {
                    routes.types.extend(file.prot_route(node)?);
                }
            }
            _ => file.unknown(&member),
        }
    }
    Ok(routes)
}

/// One file on its way.
struct File<'a> {
    text: &'a str,
    lines: Lines<'a>,
    source: Source,
    notes: &'a mut Vec<ImportNote>,
}

impl<'a> File<'a> {
    fn new(text: &'a str, source: Source, notes: &'a mut Vec<ImportNote>) -> Self {
        Self {
            text,
            lines: Lines::new(text),
            source,
            notes,
        }
    }

    fn document(&self) -> Result<Vec<Member>, ImportError> {
        let node = json::read(self.text).map_err(|error| self.error(error.at, error.message))?;
        match node.value {
            Json::Object(members) => Ok(members),
            _ => Err(self.error(node.span.start, "the document is not an object `{ ... }`")),
        }
    }

    /// Name and library of a module.
    fn module(&mut self, node: &Node) -> Result<Option<(String, Option<String>)>, ImportError> {
        let mut name = None;
        let mut library = None;
        for member in self.object(node)? {
            let value = self.scalar(&member.node)?;
            match member.key.as_str() {
                "stack_name" => name = Some(value.to_owned()),
                "libname" => library = Some(value.to_owned()).filter(|path| path.ends_with(".so")),
                // How the module is loaded is the plug-in's own business now.
                "function_name" | "loadtype" | "deploytype" | "priorty" | "priority"
                | "stackid" => {}
                "maxfd" | "minfd" => {
                    let message = format!(
                        "`{}` is not needed: descriptors are the kernel's, and so is their limit (RLIMIT_NOFILE)",
                        member.key
                    );
                    self.note_once(member.key_span.start, message);
                }
                _ => self.unknown(member),
            }
        }
        if name.is_none() {
            self.note(node.span.start, "a module without `stack_name` is left out");
        }
        Ok(name.map(|name| (name, library)))
    }

    fn ip_route(&mut self, node: &Node) -> Result<Option<(Prefix, String)>, ImportError> {
        let mut subnet = None;
        let mut stack = None;
        for member in self.object(node)? {
            match member.key.as_str() {
                "subnet" => subnet = Some(self.subnet(&member.node)?),
                "type" | "stack_name" => stack = Some(self.scalar(&member.node)?.to_owned()),
                _ => self.unknown(member),
            }
        }
        if subnet.is_none() || stack.is_none() {
            self.note(
                node.span.start,
                "an ip_route without `subnet` or without `type` is left out",
            );
        }
        Ok(subnet.zip(stack))
    }

    fn subnet(&mut self, node: &Node) -> Result<Prefix, ImportError> {
        let text = self.scalar(node)?;
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address = address.trim().parse::<IpAddr>().ok();
        let length = length.trim().parse::<u8>().ok();
        let prefix = address
            .zip(length)
            .and_then(|(address, length)| Prefix::covering(address, length));
        let Some(prefix) = prefix else {
            let message = format!(
                "`{}` is not a subnet; write \"192.168.1.0/24\"",
                text.escape_debug()
            );
            return Err(self.error(node.span.start, message));
        };
        if prefix.to_string() != text {
            self.note(
                node.span.start,
                format!("`{text}` has become {prefix}, which is what it matches"),
            );
        }
        Ok(prefix)
    }

    fn prot_route(&mut self, node: &Node) -> Result<Option<(SockType, String)>, ImportError> {
        let mut kind = None;
        let mut stack = None;
        for member in self.object(node)? {
            match member.key.as_str() {
                "proto_type" => kind = Some((self.scalar(&member.node)?, member.node.span.start)),
                "type" | "stack_name" => stack = Some(self.scalar(&member.node)?.to_owned()),
                _ => self.unknown(member),
            }
        }
        let (Some((kind, at)), Some(stack)) = (kind, stack) else {
            self.note(
                node.span.start,
                "a prot_route without `proto_type` or without `type` is left out",
            );
            return Ok(None);
        };
        let sock_type = match kind.trim() {
            "1" => SockType::Stream,
            "2" => SockType::Datagram,
            "3" => SockType::Raw,
            "5" => SockType::SeqPacket,
            _ => {
                let message = format!(
                    "proto_type `{}` is left out: it is compared with the type of a socket (1 stream, 2 datagram, 3 raw, 5 seqpacket), so it never matched; for a protocol write a rule with `protocol`",
                    kind.escape_debug()
                );
                self.note(at, message);
                return Ok(None);
            }
        };
        Ok(Some((sock_type, stack)))
    }

    fn object<'n>(&self, node: &'n Node) -> Result<&'n [Member], ImportError> {
        match &node.value {
            Json::Object(members) => Ok(members),
            _ => Err(self.error(node.span.start, "an object `{ ... }` was expected here")),
        }
    }

    fn array<'n>(&self, node: &'n Node) -> Result<&'n [Node], ImportError> {
        match &node.value {
            Json::Array(nodes) => Ok(nodes),
            _ => Err(self.error(node.span.start, "a list `[ ... ]` was expected here")),
        }
    }

    fn scalar<'n>(&self, node: &'n Node) -> Result<&'n str, ImportError> {
        match &node.value {
            Json::Scalar(text) => Ok(text),
            _ => Err(self.error(node.span.start, "a text or a number was expected here")),
        }
    }

    fn unknown(&mut self, member: &Member) {
        let message = format!(
            "`{}` has no counterpart and is left out",
            member.key.escape_debug()
        );
        self.note(member.key_span.start, message);
    }

    fn note_once(&mut self, at: usize, message: String) {
        if !self.notes.iter().any(|note| note.message == message) {
            self.note(at, message);
        }
    }

    fn note(&mut self, at: usize, message: impl Into<String>) {
        let (line, column) = self.lines.locate(at);
        self.notes.push(ImportNote {
            source: self.source,
            line,
            column,
            message: message.into(),
        });
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ImportError {
        let (line, column) = self.lines.locate(at);
        ImportError {
            origin: self.source,
            line,
            column,
            message: message.into(),
        }
    }
}
