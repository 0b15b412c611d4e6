//! `dmm doctor`.

use crate::fixture::{Preload, dmm, ran};

#[test]
fn it_agrees_with_itself_in_text_and_json() {
    let Some(preload) = Preload::new() else {
        return;
    };
    let doctor = |arguments: &[&str]| {
        ran(dmm(["doctor"])
            .args(arguments)
            .env("DMM_LIBRARY", &preload.library)
            .env("DMM_TEST_MARK", preload.mark_file()))
    };
    let json = doctor(&["--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json.code, Some(0), "{json:?}");
    assert_eq!(report["works"], true);
    let text = doctor(&[]).stdout;
    let mut checks = 0;
    for group in report["groups"].as_array().unwrap() {
        assert!(text.contains(group["title"].as_str().unwrap()));
        for check in group["checks"].as_array().unwrap() {
            checks += 1;
            let id = check["id"].as_str().unwrap();
            assert!(text.contains(id), "{id} is not in {text}");
            assert!(!check["needed_for"].as_str().unwrap().is_empty());
        }
    }
    assert!(checks > 20, "{checks}");
    assert!(
        preload.marks().contains(&"dmm".to_owned()),
        "a program ran under it"
    );
}

#[test]
fn without_the_library_it_fails_and_says_what_to_do() {
    let ran = ran(dmm(["doctor"]).env("DMM_LIBRARY", "/no/such/libdmm_posix.so"));
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.contains("missing *preload-library"),
        "{}",
        ran.stdout
    );
}

#[test]
fn problems_leaves_out_what_is_well() {
    let ran = ran(dmm(["doctor", "--problems"]).env("DMM_LIBRARY", "/no/such/libdmm_posix.so"));
    assert!(!ran.stdout.contains("  ok "), "{}", ran.stdout);
    assert!(ran.stdout.contains("preload-library"), "{}", ran.stdout);
}
