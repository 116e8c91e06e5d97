//! Renders `include/libwsx.h` from the doc comments and signatures in `ffi/`, and names the shared library.

use std::path::Path;
use std::{env, fs};

/// The files of `ffi/` in the order of the header, each with the title of its functions there.
const NOUNS: [(&str, &str); 13] = [
    ("status", "Version and errors"),
    ("options", "Options"),
    ("event_loop", "The loop, and everybody on it"),
    ("callbacks", ""),
    ("listener", "Listening and connecting"),
    ("request", "The opening handshake: inside on_request and on_open"),
    ("response", "The answer to a request, in on_request and later"),
    ("tls", "TLS"),
    ("connection", "A connection"),
    ("message", "Messages that are not copied"),
    ("statistics", "Statistics"),
    ("client", "A client that connects again"),
    ("log", "The log"),
];
const HEADER: &str = "include/libwsx.h";

fn main() {
    println!("cargo:rerun-if-changed=ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed={HEADER}");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwsx.so.0");
    }
    let header = render();
    // A file that does not change keeps its time, and what depends on it is not built again.
    if fs::read_to_string(HEADER).ok().as_deref() != Some(&header) {
        fs::create_dir_all("include").expect("make include/");
        fs::write(HEADER, header).expect("write include/libwsx.h");
    }
}

fn render() -> String {
    let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("read cbindgen.toml");
    config.after_includes = Some(version_macros());
    let sources = NOUNS.map(|(noun, _)| format!("ffi/{noun}.rs"));
    let builder = cbindgen::Builder::new().with_config(config);
    let bindings = sources.iter().fold(builder, |builder, source| builder.with_src(Path::new(source))).generate();
    let mut header = Vec::new();
    bindings.expect("read ffi/").write(&mut header);
    let header = tidy(&String::from_utf8(header).expect("a header in UTF-8"));
    sources.iter().zip(NOUNS).fold(header, |header, (source, (_, title))| {
        let source = fs::read_to_string(source).expect("read ffi/");
        first_function(&source).map_or(header.clone(), |function| with_title(header, function, title))
    })
}

/// The version as the preprocessor sees it: written once, in Cargo.toml.
fn version_macros() -> String {
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("a version").parse::<u32>().unwrap();
    let (major, minor, patch) = (part("MAJOR"), part("MINOR"), part("PATCH"));
    let number = major * 1_000_000 + minor * 1_000 + patch;
    format!(
        "\n/** The version of this header; wsx_version() and wsx_version_string() tell the library's. */\n\
         #define WSX_VERSION \"{major}.{minor}.{patch}\"\n\
         #define WSX_VERSION_MAJOR {major}\n\
         #define WSX_VERSION_MINOR {minor}\n\
         #define WSX_VERSION_PATCH {patch}\n\
         /** MAJOR * 1000000 + MINOR * 1000 + PATCH */\n\
         #define WSX_VERSION_NUMBER {number}"
    )
}

fn first_function(source: &str) -> Option<&str> {
    let name = &source[source.find("fn wsx_")? + 3..];
    Some(&name[..name.find(['(', '<'])?])
}

/// Writes a title above the documentation of a function.
fn with_title(mut header: String, function: &str, title: &str) -> String {
    let declared = header.match_indices(&format!("{function}(")).map(|(at, _)| at).find(|at| {
        let line = &header[header[..*at].rfind('\n').map_or(0, |end| end + 1)..];
        !line.trim_start().starts_with(['*', '/'])
    });
    let documented = header[..declared.expect("a declaration")].rfind("/**").expect("its documentation");
    header.insert_str(documented, &format!("/* ---- {title} ---- */\n\n"));
    header
}

/// What cbindgen has no options for: a comment of one line on one line, negative constants in parentheses, types by
/// their short names, and no const on a loop, which a call changes though Rust shares it.
fn tidy(header: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in header.lines() {
        let mut line = line.to_owned();
        if !line.starts_with("typedef struct ") {
            line = line.replace("struct wsx_", "wsx_").replace("const wsx_loop *", "wsx_loop *");
        }
        if let Some((define, value)) = line.strip_prefix("#define ").and_then(|rest| rest.split_once(" -")) {
            line = format!("#define {define} (-{value})");
        }
        if let [.., first, text] = &lines[..]
            && (first.trim(), line.trim()) == ("/**", "*/")
            && text.len() + 5 <= 120
        {
            let one_line = text.replacen(" * ", "/** ", 1) + " */";
            lines.truncate(lines.len() - 2);
            line = one_line;
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}
