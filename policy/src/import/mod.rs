//! Translates the configuration of the C DMM: `rd_config.json` and `module_config.json`.
//!
//! What the C DMM does with them, and what becomes of it here:
//!
//! - A `prot_route` is looked up first, when a program makes an IPv4 socket, and its `proto_type` is
//!   compared with the *type* argument of socket(2), despite its name: 1 is a stream socket, 2 a
//!   datagram one. It becomes a rule with `type`.
//! - An `ip_route` is looked up next: with the local address at `bind`, else with the remote one at
//!   `connect`. The longest prefix wins, the last of equal ones. It becomes two rules, for `local` and
//!   `remote`, and rules are written in the order of decreasing prefix length.
//! - 127.0.0.1 and 0.0.0.0 go to the kernel unless an `ip_route` says otherwise.
//! - `default_stack_name` becomes `[default]`.
//! - A module that is not the kernel becomes a stack of type `plugin`; its file limits and start
//!   parameters have no counterpart and become notes.

mod document;
mod json;
mod write;

use serde::Serialize;

/// Most subnets that fit into a policy, as each becomes two rules.
const MAX_SUBNETS: usize = 32_000;

/// A policy in TOML, and what could not be taken over as it was.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The policy. [`crate::parse`] reads it without an error.
    pub toml: String,
    /// What a person should look at; the same remarks stand as comments in the policy.
    pub notes: Vec<ImportNote>,
}

/// A remark on one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportNote {
    /// Which of the files.
    pub source: Source,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What to know.
    pub message: String,
}

/// One of the files of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `rd_config.json`: which addresses and protocols go to which stack.
    RdConfig,
    /// `module_config.json`: which stacks there are.
    ModuleConfig,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RdConfig => "rd_config.json",
            Self::ModuleConfig => "module_config.json",
        })
    }
}

/// Why a configuration cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{origin}:{line}:{column}: {message}")]
pub struct ImportError {
    /// Which of the files.
    pub origin: Source,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// Translates a configuration.
///
/// # Errors
/// A file that is not JSON even in the tolerant reading (comments and trailing commas are fine), or
/// an entry that cannot be given a meaning, such as a subnet that is none. What merely has no
/// counterpart becomes a note.
pub fn c_dmm(rd_config: &str, module_config: Option<&str>) -> Result<Imported, ImportError> {
    let mut notes = Vec::new();
    let modules = module_config
        .map(|text| document::modules(text, &mut notes))
        .transpose()?
        .unwrap_or_default();
    let routes = document::routes(rd_config, &mut notes)?;
    if routes.subnets.len() > MAX_SUBNETS {
        return Err(ImportError {
            origin: Source::RdConfig,
            line: 1,
            column: 1,
            message: format!(
                "{} subnets are more than {MAX_SUBNETS}; join neighbouring ones",
                routes.subnets.len()
            ),
        });
    }
    Ok(write::policy(&modules, &routes, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RD_CONFIG: &str = r#"
{
  "ip_route": [
    {
      "subnet": "192.168.21.1/24",
      "type": "nstack-dpdk",
          /* output interface type */
    },
    {
      "subnet": "172.16.0.0/12",
      "type": "nstack-kernel",
    },
    { "subnet": "172.16.25.125/16", "stack_name": "stackx" }
  ],
  "prot_route": [
    { "proto_type": "2", "type": "nstack-kernel", },
    { "proto_type": "11", "type": "nstack-kernel", }
  ],
}
"#;
    const MODULE_CONFIG: &str = r#"
{
    "default_stack_name": "kernel",  /* the default */
    "module_list": [
    { "stack_name": "kernel", "function_name": "kernel_stack_register", "libname": "./",
      "loadtype": "static", "deploytype": "1", "maxfd": "1024", "minfd": "0", "priorty": "1", "stackid": "0", },
    { "stack_name": "stackx", "function_name": "vpphs_stack_register", "libname": "../lib64/libdmm_vcl.so",
      "loadtype": "dynmic", "deploytype": "1", "maxfd": "1024", "minfd": "0", "priorty": "1", "stackid": "1", },
    ]
}
"#;

    fn policy(imported: &Imported) -> crate::Policy {
        let parsed = crate::parse(&imported.toml, "imported.toml");
        let rendered: Vec<String> = parsed
            .diagnostics
            .iter()
            .map(|found| found.render(&imported.toml, false))
            .collect();
        parsed
            .policy
            .unwrap_or_else(|| panic!("{}\n{}", imported.toml, rendered.join("\n")))
    }

    #[test]
    fn a_real_configuration_becomes_a_policy() {
        let imported = c_dmm(RD_CONFIG, Some(MODULE_CONFIG)).unwrap();
        let policy = policy(&imported);
        let names: Vec<&str> = policy
            .rules()
            .iter()
            .map(|rule| rule.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "prot_route: datagram sockets",
                "ip_route 0.0.0.0/32, local",
                "ip_route 127.0.0.1/32, local",
                "ip_route 192.168.21.0/24, local",
                "ip_route 172.16.0.0/16, local",
                "ip_route 172.16.0.0/12, local",
                "ip_route 0.0.0.0/32, remote",
                "ip_route 127.0.0.1/32, remote",
                "ip_route 192.168.21.0/24, remote",
                "ip_route 172.16.0.0/16, remote",
                "ip_route 172.16.0.0/12, remote",
            ]
        );
        let stack = |name: &str| {
            let rule = policy
                .rules()
                .iter()
                .find(|rule| rule.name == name)
                .unwrap();
            policy.stacks()[usize::from(rule.stacks[0].0)].name.clone()
        };
        assert_eq!(stack("ip_route 192.168.21.0/24, remote"), "stackx");
        assert_eq!(stack("ip_route 172.16.0.0/12, remote"), "kernel");
        assert!(
            imported
                .notes
                .iter()
                .any(|note| note.message.contains("192.168.21.0/24")),
            "cut host bits are told: {:?}",
            imported.notes
        );
        assert!(
            imported
                .notes
                .iter()
                .any(|note| note.message.contains("`11`"))
        );
    }

    #[test]
    fn the_module_file_may_be_missing() {
        let imported = c_dmm(RD_CONFIG, None).unwrap();
        policy(&imported);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let error = c_dmm(
            "{\n  \"ip_route\": [ { \"subnet\": \"1.2.3/x\", \"type\": \"a\" } ] }",
            None,
        );
        let error = error.unwrap_err();
        assert_eq!(
            (error.origin, error.line, error.column),
            (Source::RdConfig, 2, 29)
        );
        let error = c_dmm("{}", Some("{ \"module_list\" }")).unwrap_err();
        assert_eq!((error.origin, error.line), (Source::ModuleConfig, 1));
        assert!(
            error.to_string().starts_with("module_config.json:1:17: "),
            "{error}"
        );
    }
}
