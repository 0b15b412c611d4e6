//! The library exports what its table says, no more and no less, and `docs/posix.md` is that table.

#[path = "../examples/surface/table.rs"]
#[allow(unreachable_pub, reason = "an example has the module too")]
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;

use object::{Object, ObjectSymbol};

/// The library that this test's build has made, beside the test's own folder.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    folder.join("libdmm_posix.so")
}

fn exported() -> BTreeSet<String> {
    let bytes = std::fs::read(library()).expect("the library is built with its tests");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .map(|symbol| symbol.name().expect("a name in UTF-8").to_owned())
        .collect()
}

#[test]
fn the_table_lists_what_the_library_exports() {
    let listed: Vec<&str> = table::SURFACE
        .iter()
        .flat_map(|group| group.rows)
        .flat_map(|row| row.symbols)
        .copied()
        .collect();
    let unique: BTreeSet<String> = listed.iter().map(|&symbol| symbol.to_owned()).collect();
    assert_eq!(unique.len(), listed.len(), "a symbol is listed twice");
    let exported = exported();
    let undocumented: Vec<_> = exported.difference(&unique).collect();
    let missing: Vec<_> = unique.difference(&exported).collect();
    assert!(
        undocumented.is_empty() && missing.is_empty(),
        "exported but not in the table: {undocumented:?}; in the table but not exported: {missing:?}"
    );
}

#[test]
fn the_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/posix.md");
    let document = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        document == table::markdown(),
        "docs/posix.md is out of date: cargo run -p dmm-posix --example surface > docs/posix.md"
    );
}
