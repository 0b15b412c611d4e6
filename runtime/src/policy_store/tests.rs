use std::os::unix::fs::PermissionsExt;

use super::*;

const KERNEL: &str = "[default]\nstack = [\"kernel\"]\n";

fn named(name: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nmatch = {{ role = \"listen\" }}\nstack = \"kernel\"\n")
}

/// A store with all of its places in a directory of the test's own.
struct Setting {
    dir: tempfile::TempDir,
    store: Store,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let live = file::canonical(&dir.path().join("policy.toml")).unwrap();
        let history = History::of(&live, &dir.path().join("state"));
        Self {
            store: Store {
                live,
                history,
                shm: dir.path().to_owned(),
            },
            dir,
        }
    }

    fn live_text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("policy.toml")).unwrap()
    }
}

#[test]
fn versions_come_and_go_back() {
    let setting = Setting::new();
    let store = &setting.store;
    assert!(store.versions().unwrap().is_empty());
    assert!(store.current().unwrap().is_none());
    for name in ["one", "two", "three"] {
        let applied = store.apply(&named(name), name).unwrap();
        assert!(applied.changed);
    }
    assert_eq!(store.current().unwrap().unwrap().version, 3);
    assert!(
        std::fs::read_dir(setting.dir.path())
            .unwrap()
            .flatten()
            .any(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("dmm-policy.")
            })
    );
    let same = store.apply(&named("three"), "again").unwrap();
    assert!(!same.changed);
    assert_eq!(same.version.version, 3);

    let back = store.rollback(None, "").unwrap();
    assert_eq!((back.version.version, back.version.restores), (4, Some(2)));
    assert_eq!(setting.live_text(), named("two"));
    let further = store.rollback(None, "").unwrap();
    assert_eq!(further.version.restores, Some(1));
    assert!(matches!(
        store.rollback(None, ""),
        Err(Error::NoEarlierVersion(_))
    ));
    assert!(matches!(
        store.rollback(Some(77), ""),
        Err(Error::NoVersion { version: 77, .. })
    ));
    store.rollback(Some(3), "").unwrap();
    assert_eq!(setting.live_text(), named("three"));
    assert_eq!(store.text(2).unwrap(), named("two"));
}

#[test]
fn a_text_with_errors_changes_nothing() {
    let setting = Setting::new();
    setting.store.apply(KERNEL, "").unwrap();
    let refused = setting
        .store
        .apply("[default]\nstack = [\"nowhere\"]\n", "");
    let Err(Error::PolicyRefused { diagnostics, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert!(!diagnostics.is_empty());
    assert_eq!(setting.live_text(), KERNEL);
    assert_eq!(setting.store.versions().unwrap().len(), 1);
}

#[test]
fn an_edit_by_hand_becomes_a_version() {
    let setting = Setting::new();
    setting.store.apply(KERNEL, "").unwrap();
    std::fs::write(setting.store.live(), named("by hand")).unwrap();
    let versions = setting.store.versions().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[1].origin, Origin::Edit);
    std::fs::write(setting.store.live(), "broken [").unwrap();
    assert_eq!(setting.store.versions().unwrap().len(), 2);
    let hash = text_hash(&named("by hand"));
    assert_eq!(setting.store.with_hash(hash).unwrap().unwrap().version, 2);
}

#[test]
fn mode_and_links_stay() {
    let setting = Setting::new();
    setting.store.apply(KERNEL, "").unwrap();
    let live = setting.store.live().to_owned();
    std::fs::set_permissions(&live, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = setting.dir.path().join("link.toml");
    std::os::unix::fs::symlink(&live, &link).unwrap();
    assert_eq!(file::canonical(&link).unwrap(), live);
    setting.store.apply(&named("x"), "").unwrap();
    let mode = std::fs::metadata(&live).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(link.is_symlink());
}

#[test]
fn a_broken_index_is_said_with_its_line() {
    let setting = Setting::new();
    setting.store.apply(KERNEL, "").unwrap();
    let dirs: Vec<_> = std::fs::read_dir(setting.dir.path().join("state"))
        .unwrap()
        .flatten()
        .collect();
    let index = dirs[0].path().join("index.jsonl");
    let text = std::fs::read_to_string(&index).unwrap() + "nonsense\n";
    std::fs::write(&index, text).unwrap();
    assert!(matches!(
        setting.store.versions(),
        Err(Error::History { line: 2, .. })
    ));
}

#[test]
fn a_pipe_is_not_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(matches!(file::read_policy(&path), Err(Error::File { .. })));
    assert!(matches!(
        file::read_policy(&dir.path().join("none")),
        Ok(None)
    ));
}
