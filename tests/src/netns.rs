//! Network namespaces of a test's own. They need root and ip(8).

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A named network namespace with its loopback up, joined to the tests' own by a pair of virtual
/// interfaces. Both go when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    subnet: u8,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Panics
    /// When ip(8) refuses.
    #[track_caller]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("dmmtest-{process}-{count}");
        let subnet = ((process * 7 + count) % 250) as u8;
        ip(&format!("netns add {name}"));
        let namespace = Self { name, subnet };
        let (name, inner, outer) = (&namespace.name, namespace.inner(), namespace.outer());
        let (near, far) = (namespace.interface("n"), namespace.interface("f"));
        ip(&format!(
            "link add {near} type veth peer name {far} netns {name}"
        ));
        ip(&format!("addr add {outer}/30 dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("-n {name} addr add {inner}/30 dev {far}"));
        ip(&format!("-n {name} link set {far} up"));
        ip(&format!("-n {name} link set lo up"));
        namespace
    }

    /// Its name, below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own address.
    pub fn inner(&self) -> String {
        format!("10.213.{}.2", self.subnet)
    }

    /// The address of the tests' namespace as seen from inside.
    pub fn outer(&self) -> String {
        format!("10.213.{}.1", self.subnet)
    }

    /// What runs a program inside: `ip netns exec NAME`, as words.
    pub fn exec(&self) -> String {
        format!("netns exec {}", self.name)
    }

    fn interface(&self, end: &str) -> String {
        // At most 15 characters.
        format!("dt{}{end}", self.name.trim_start_matches("dmmtest-"))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The near end by hand: a namespace whose processes are still dying goes later.
        let near = self.interface("n");
        for words in [
            format!("link del {near}"),
            format!("netns del {}", self.name),
        ] {
            let _gone_already = Command::new("ip").args(words.split(' ')).status();
        }
    }
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .expect("to run ip");
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
