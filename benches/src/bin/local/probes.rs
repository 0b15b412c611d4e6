//! The small C programs, compiled.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const HEADER: &str = include_str!("../../../c/common.h");

/// A plain C program of `benches/c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    PingPong,
    Echo,
    Connects,
    Sessions,
    Memload,
}

/// All of them, in a directory that goes with the value.
#[derive(Debug)]
pub(crate) struct Probes {
    directory: TempDir,
}

impl Probes {
    /// Compiles them with the system's C compiler.
    pub(crate) fn compile() -> Result<Self, Box<dyn std::error::Error>> {
        let directory = tempfile::Builder::new().prefix("dmm-bench-").tempdir()?;
        std::fs::write(directory.path().join("common.h"), HEADER)?;
        for probe in Probe::ALL {
            let (name, source) = probe.source();
            let file = directory.path().join(format!("{name}.c"));
            std::fs::write(&file, source)?;
            let compiled = Command::new("cc")
                .args(["-O2", "-o"])
                .arg(directory.path().join(name))
                .arg(&file)
                .output()
                .map_err(|error| format!("cc: {error} (tests/setup.sh installs it)"))?;
            if !compiled.status.success() {
                let said = String::from_utf8_lossy(&compiled.stderr);
                return Err(format!("benches/c/{name}.c does not compile:\n{said}").into());
            }
        }
        Ok(Self { directory })
    }

    /// Where one is.
    pub(crate) fn path(&self, probe: Probe) -> PathBuf {
        self.directory.path().join(probe.source().0)
    }
}

impl Probe {
    const ALL: [Self; 5] = [
        Self::PingPong,
        Self::Echo,
        Self::Connects,
        Self::Sessions,
        Self::Memload,
    ];

    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::PingPong => ("pingpong", include_str!("../../../c/pingpong.c")),
            Self::Echo => ("echo", include_str!("../../../c/echo.c")),
            Self::Connects => ("connects", include_str!("../../../c/connects.c")),
            Self::Sessions => ("sessions", include_str!("../../../c/sessions.c")),
            Self::Memload => ("memload", include_str!("../../../c/memload.c")),
        }
    }
}
