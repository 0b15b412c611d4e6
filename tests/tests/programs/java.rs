//! Java: blocking sockets, NIO selectors and channels, and the HTTP server and client of the JDK.

use std::time::Duration;

use dmm_tests::{needs, side_by_side_and_local};

#[test]
fn channels_selectors_and_http() {
    needs!(Program("java"));
    side_by_side_and_local(|setting| {
        let source = setting
            .scratch()
            .file("Sockets.java", include_str!("java/Sockets.java"));
        let report = setting
            .program("java")
            .words("-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1")
            .arg(source)
            .current_dir(setting.dir())
            .limit(Duration::from_secs(180))
            .output();
        assert_eq!(report.lines().last(), Some("java done"), "{report}");
        report
    });
}
