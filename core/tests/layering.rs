//! Imports run downwards only, and what belongs to one place stays there.
//!
//! ```text
//! ffi, bindings  →  engine  →  protocol  →  config event close error statistics log
//! ```
//!
//! This reads the sources, not the compiler's mind: a path is what is written as `crate::…` or `super::…`, in a `use`
//! or anywhere else. Comments and string literals are taken out first.

use std::fs;
use std::path::{Path, PathBuf};

const VOCABULARY: [&str; 6] = ["config", "event", "close", "error", "statistics", "log"];

/// A source file: where it is, and its text without comments and the contents of strings.
struct Source {
    path: String,
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Rust sources below these folders of the repository; those that do not exist yet have none.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let is_built = path.file_name().is_some_and(|name| name == "target" || name == "node_modules");
            if path.is_dir() && !is_built {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = strip(&fs::read_to_string(&path).unwrap());
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, code });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Takes out comments, and what is inside of string and character literals; lines stay lines.
fn strip(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|more| more.trim_start_matches('#')).filter(|more| more.starts_with('"'));
        let is_word = code.ends_with(|before: char| before.is_alphanumeric() && before != 'b' || before == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(more) = raw.filter(|_| !is_word) {
            let hashes = "#".repeat(rest.len() - more.len() - 1);
            let begin = rest.len() - more.len() + 1;
            let end = format!("\"{hashes}");
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if first == '"' {
            literal_end(rest, '"')
        } else if first == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            literal_end(rest, '\'')
        } else {
            code.push(first);
            first.len_utf8()
        };
        if !rest.starts_with(['/', 'r']) && length > 1 {
            code.push_str("\"\"");
        }
        if length > first.len_utf8() {
            code.extend(rest[..length].chars().filter(|&c| c == '\n'));
        }
        rest = &rest[length..];
    }
    code
}

/// The index behind the end of a literal that may hold escapes.
fn literal_end(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Each place where one of `words` stands in the code, as a word: `path:line: the line`.
fn mentions(source: &Source, words: &[&str]) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (index, line) in source.code.lines().enumerate() {
        for word in words {
            let is_there = line.match_indices(word).any(|(at, _)| {
                let goes_on = word.ends_with(is_part) && line[at + word.len()..].starts_with(is_part);
                !line[..at].ends_with(is_part) && !goes_on
            });
            if is_there {
                found.push(format!("{}:{}: {word}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    found
}

/// Of a file of core: `engine`, `protocol`, or the name of a file of the vocabulary.
fn module_of(path: &str) -> &str {
    let path = path.strip_prefix("core/src/").unwrap();
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// How high a module of core stands; none for what is no module, as a re-exported name.
fn height(module: &str) -> Option<u8> {
    match module {
        "engine" => Some(2),
        "protocol" => Some(1),
        module if VOCABULARY.contains(&module) => Some(0),
        _ => None,
    }
}

/// The modules of core that this file names: after `crate::`, and after as many `super::` as lead to the top. Groups in
/// braces count with each of their names.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let inside = source.path.strip_prefix("core/src/").unwrap().trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inside.split('/').count();
    let to_the_top = "super::".repeat(depth);
    let mut named = Vec::new();
    for prefix in ["crate::", to_the_top.as_str()] {
        for (at, _) in source.code.match_indices(prefix) {
            let line = source.code[..at].matches('\n').count() + 1;
            let rest = &source.code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => top_names(group),
                None => vec![first_word(rest)],
            };
            named.extend(names.into_iter().map(|name| (line, name.to_owned())));
        }
    }
    named
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// The first words of the elements of a group, up to its closing brace.
fn top_names(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut names) = (0, 0, Vec::new());
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.extend(Some(first_word(&group[begin..index])).filter(|name| !name.is_empty()));
                begin = index + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

#[track_caller]
fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_run_downwards_only() {
    let mut found = Vec::new();
    for source in sources(&["core/src"]) {
        let module = module_of(&source.path);
        let Some(own) = height(module) else {
            assert_eq!(module, "lib", "{} is in no layer", source.path);
            continue;
        };
        for (line, name) in modules_named(&source) {
            // The names of `lib.rs` are the public ones: below the engine, a file says where a thing comes from.
            let other = height(&name);
            if other.is_some_and(|other| other > own) {
                found.push(format!("{}:{line}: {module} is below {name}", source.path));
            }
        }
    }
    assert_none("imports that run upwards", found);
}

#[test]
fn the_protocol_knows_addresses_but_no_sockets_no_clock_no_threads_and_no_locks() {
    let protocol = sources(&["core/src/protocol"]);
    let forbidden = [
        "mio",
        "socket2",
        "rustix",
        "libc",
        "env",
        "TcpListener",
        "TcpStream",
        "ToSocketAddrs",
        "UdpSocket",
        "UnixListener",
        "UnixStream",
        "thread",
        "Instant",
        "SystemTime",
        "Mutex",
        "RwLock",
        "Condvar",
        "mpsc",
        "OnceLock",
        "LazyLock",
        "atomic",
        "thread_local",
    ];
    assert_none("below the engine", protocol.iter().flat_map(|source| mentions(source, &forbidden)).collect());
}

#[test]
fn the_vocabulary_knows_addresses_but_no_sockets_no_clock_and_no_threads() {
    let vocabulary = sources(&["core/src"]).into_iter().filter(|source| height(module_of(&source.path)) == Some(0));
    let forbidden =
        ["mio", "socket2", "TcpStream", "TcpListener", "UnixStream", "thread", "Instant", "Mutex", "RwLock"];
    assert_none("below the engine", vocabulary.flat_map(|source| mentions(&source, &forbidden)).collect());
}

#[test]
fn the_doors_use_the_public_api_of_core_only() {
    // Whoever names a module of core's by its path, or its hidden protocol, has found a hole in the public API.
    let doors = sources(&["ffi", "bindings"]);
    let found = doors.iter().flat_map(|source| mentions(source, &["wsx_core::protocol", "wsx_core::engine", "mio"]));
    assert_none("in the doors", found.collect());
}

#[test]
fn rustls_is_known_in_one_place() {
    let elsewhere = sources(&["core/src", "ffi", "bindings"]).into_iter();
    let elsewhere = elsewhere.filter(|source| !source.path.starts_with("core/src/engine/tls"));
    assert_none("beside engine/tls", elsewhere.flat_map(|source| mentions(&source, &["rustls"])).collect());
}

#[test]
fn unsafe_code_of_core_is_in_unmask_only() {
    // The doors to other languages cannot do without; clippy sees to it that each of their blocks says why it is sound.
    let found = sources(&["core/src"]).into_iter().filter(|source| source.path != "core/src/protocol/unmask.rs");
    assert_none("unsafe code", found.flat_map(|source| mentions(&source, &["unsafe", "unsafe_code"])).collect());
}

#[test]
fn the_library_never_prints_and_never_exits() {
    let forbidden = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "process::exit", "process::abort"];
    let all = sources(&["core/src", "ffi", "bindings"]);
    assert_none("in the library", all.iter().flat_map(|source| mentions(source, &forbidden)).collect());
}

#[test]
fn these_tests_find_what_they_look_for() {
    let source = |path: &str, text: &str| Source { path: path.into(), code: strip(text) };
    let code =
        strip("let a = \"unsafe // \\\" x\"; // unsafe\n/* unsafe\n */ r#\"unsafe \" \"#; b'\\''; '\"'; f::<'a>(x)");
    assert!(!code.contains("unsafe") && code.contains("f::<'a>(x)"), "{code}");
    assert_eq!(code.lines().count(), 3);

    let named = |path: &str, text: &str| -> Vec<String> {
        modules_named(&source(path, text)).into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(named("core/src/protocol/frame.rs", "use super::super::engine::send;"), ["engine"]);
    assert_eq!(named("core/src/protocol/mod.rs", "fn f() { super::engine::g() }"), ["engine"]);
    assert_eq!(named("core/src/close.rs", "use crate::{\n error::{A, B},\n engine::x,\n};"), ["error", "engine"]);
    assert_eq!(named("core/src/protocol/frame.rs", "use super::message::X;"), Vec::<String>::new());

    let mentioned = |text: &str, word: &str| mentions(&source("core/src/close.rs", text), &[word]).len();
    assert_eq!(mentioned("use std::net::TcpStream;", "net"), 1);
    assert_eq!(mentioned("let network = planet;", "net"), 0);
    assert_eq!(mentioned("println!(\"x\");\nprint!(\"x\");", "print!"), 1);
}
