//! What of the kernel a driver uses, and what it does not use and why.

use std::fmt;

/// Which mechanism carries a shard's I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverKind {
    /// io_uring(7).
    IoUring,
    /// epoll(7): where io_uring is forbidden or too old.
    Epoll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// A feature of the kernel that makes a shard faster, or able.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// io_uring itself.
    IoUring,
    /// `IORING_SETUP_SINGLE_ISSUER` (Linux 6.0).
    SingleIssuer,
    /// `IORING_SETUP_DEFER_TASKRUN` (6.1).
    DeferTaskrun,
    /// `IORING_SETUP_COOP_TASKRUN` (5.19).
    CoopTaskrun,
    /// `IORING_REGISTER_RING_FDS` (5.18).
    RegisteredRing,
    /// Rings of provided buffers (5.19).
    BufferRing,
    /// Provided buffers that are filled piece by piece (`IOU_PBUF_RING_INC`, 6.12).
    IncrementalBuffers,
    /// Receives that fill several buffers at once (`IORING_RECVSEND_BUNDLE`, 6.10).
    Bundles,
    /// One accept request for many connections (5.19).
    MultishotAccept,
    /// One receive request for many messages (6.0).
    MultishotReceive,
    /// `IORING_OP_SEND_ZC` (6.0).
    ZeroCopySend,
    /// `IORING_OP_MSG_RING` (5.18).
    MessageRing,
    /// `IORING_OP_LINK_TIMEOUT` (5.5).
    LinkedTimeout,
    /// Busy polling of network queues (`IORING_REGISTER_NAPI`, 6.9).
    NapiBusyPoll,
    /// `IORING_OP_FUTEX_WAIT` (6.7).
    FutexWait,
    /// Descriptors that only the ring knows (5.19).
    DirectDescriptors,
}

impl Feature {
    /// How an operator reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::SingleIssuer => "single issuer",
            Self::DeferTaskrun => "deferred task work",
            Self::CoopTaskrun => "cooperative task work",
            Self::RegisteredRing => "registered ring",
            Self::BufferRing => "buffer ring",
            Self::IncrementalBuffers => "incremental buffers",
            Self::Bundles => "bundles",
            Self::MultishotAccept => "multishot accept",
            Self::MultishotReceive => "multishot receive",
            Self::ZeroCopySend => "zero-copy send",
            Self::MessageRing => "message ring",
            Self::LinkedTimeout => "linked timeouts",
            Self::NapiBusyPoll => "NAPI busy poll",
            Self::FutexWait => "futex wait",
            Self::DirectDescriptors => "direct descriptors",
        }
    }
}

/// The features of one shard's driver, as probed when it started.
#[derive(Clone, Debug)]
pub struct Features {
    driver: DriverKind,
    entries: Vec<(Feature, Option<String>)>,
}

impl Features {
    pub(crate) fn new(driver: DriverKind) -> Self {
        Self {
            driver,
            entries: Vec::new(),
        }
    }

    pub(crate) fn on(&mut self, feature: Feature) {
        self.set(feature, None);
    }

    pub(crate) fn off(&mut self, feature: Feature, why: impl Into<String>) {
        self.set(feature, Some(why.into()));
    }

    fn set(&mut self, feature: Feature, why_not: Option<String>) {
        self.entries.retain(|(known, _)| *known != feature);
        self.entries.push((feature, why_not));
    }

    /// Which driver was chosen.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Whether a feature engaged.
    pub fn has(&self, feature: Feature) -> bool {
        self.entries.contains(&(feature, None))
    }

    /// Why a feature did not engage: `None` if it did, or if it means nothing to this driver.
    pub fn why_not(&self, feature: Feature) -> Option<&str> {
        let (_, why_not) = self.entries.iter().find(|(known, _)| *known == feature)?;
        why_not.as_deref()
    }

    /// All that is known: a feature, and why it did not engage.
    pub fn iter(&self) -> impl Iterator<Item = (Feature, Option<&str>)> {
        self.entries
            .iter()
            .map(|(feature, why_not)| (*feature, why_not.as_deref()))
    }
}

/// A line for the driver and one for each feature.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "driver: {}", self.driver)?;
        for (feature, why_not) in self.iter() {
            match why_not {
                None => writeln!(f, "  {:<22} on", feature.name())?,
                Some(why) => writeln!(f, "  {:<22} off: {why}", feature.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_feature_counts() {
        let mut features = Features::new(DriverKind::IoUring);
        features.on(Feature::Bundles);
        features.off(Feature::Bundles, "not here");
        assert!(!features.has(Feature::Bundles));
        assert_eq!(features.why_not(Feature::Bundles), Some("not here"));
        assert_eq!(features.why_not(Feature::FutexWait), None);
        assert!(features.to_string().contains("off: not here"));
    }
}
