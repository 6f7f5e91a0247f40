//! `bans import` and `bans export`, as far as no daemon is needed.

use crate::common::{nobody, portcullis};

fn import(file: &std::path::Path, more: &[&str]) -> crate::common::Called {
    let (file, socket) = (file.display().to_string(), nobody());
    let arguments = ["bans", "import", &file, "--socket", &socket];
    portcullis([&arguments, more].concat())
}

#[test]
fn what_holds_no_bans_is_refused_before_the_daemon_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bans");
    for (bytes, says) in [
        (&b"{\"a\": {\"b\": 1}}"[..], "holds no bans"),
        (b"[{\"prefix\": ", "it is no JSON"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "binary"),
        (b"SQLite format 3\0", "damaged"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        import(&file, &[]).expect(1).one_sentence(says);
    }
    import(&folder.path().join("none"), &[])
        .expect(1)
        .one_sentence("there is no such file");
}

#[test]
fn without_a_daemon_nothing_is_taken_in_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bans");
    for text in ["192.0.2.1\n", "", "{}", "[]", "ip,reason\n192.0.2.1,x\n"] {
        std::fs::write(&file, text).unwrap();
        import(&file, &[]).expect(4);
    }
    let out = folder.path().join("out");
    let (path, socket) = (out.display().to_string(), nobody());
    portcullis(["bans", "export", "--output", &path, "--socket", &socket]).expect(4);
    assert!(!out.exists(), "no empty file is left");
}

#[test]
fn a_wrong_call_is_usage() {
    for call in [
        "bans export --format xml",
        "bans import - --for soon",
        "bans import - --for 1h --forever",
        "bans export --plain",
    ] {
        portcullis(call.split_whitespace()).expect(2);
    }
}
