//! What several programs' tests share.

use std::fs;

use dmm_tests::Setting;

/// Makes `cert.pem` and `key.pem` for localhost in the setting's directory.
pub(crate) fn certificate(setting: &Setting) {
    setting
        .tool("openssl")
        .words("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2")
        .words("-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1")
        .arg("-keyout")
        .arg(setting.dir().join("key.pem"))
        .arg("-out")
        .arg(setting.dir().join("cert.pem"))
        .run()
        .success();
}

/// The processes whose parent is `pid`.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            list.split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok()),
        );
    }
    children
}

/// A directive with which a server drops root's privileges, for those who have them.
pub(crate) fn drop_to(directive: &str) -> &str {
    if rustix::process::geteuid().is_root() {
        directive
    } else {
        ""
    }
}

/// Whether a process that is no child of ours has ended.
pub(crate) fn is_gone(pid: u32) -> bool {
    // A zombie whose parent has not looked yet has ended, too.
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    })
}
