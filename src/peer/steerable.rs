//! Programs that do what their input says, by name. Pure.
//!
//! A guard against a slip of whoever writes the config, and no boundary: whoever may choose a digest may choose a name.

use std::path::Path;

/// Interpreters, shells, clients that fetch and send, relays, debuggers, loaders, and those that run other programs. Each
/// without its version.
const PROGRAMS: &str = "
    ash bash bun busybox csh dash deno fish ksh mksh nu osh posh pwsh rbash rsh sh tcsh toybox xonsh yash zsh
    awk bpftrace emacs erl expect gawk ghc groovy guile iex irb java jjs jshell js jsc julia lua luajit m mawk mono nawk node
    nodejs octave perl php php-cgi php-fpm pypy python qjs r rscript ruby scala sed sqlite tcc tclsh vim vim.basic vim.tiny vi
    view wasmtime wish
    curl ftp git nc nc.openbsd nc.traditional ncat netcat openssl rsync scp sftp socat ssh telnet wget websocat
    gdb gdbserver lldb ltrace rr strace valgrind
    ld-linux ld-linux-aarch ld-linux-x ld-musl-aarch ld-musl-x
    ed env find flock make nice nohup nsenter parallel screen script setpriv setsid stdbuf sudo systemd-run timeout tmux unshare
    watch xargs
";

/// Libraries that make one of whoever loads them: how their file names begin.
const INTERPRETERS: &str = "
    libcoreclr libduktape libgraal libguile libjava libjvm liblua libmono libmozjs libnode libperl libphp libpython libquickjs
    libruby libtcl libv8
";

/// Whether a program of this file name does what its input says. Versions at the end of it do not count.
pub(super) fn is_program(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let listed = |name: &str| PROGRAMS.split_ascii_whitespace().any(|program| program == name);
    let versionless = |name: &str| {
        name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_')).to_owned()
    };
    // php-fpm8.2, busybox.static, ld-linux-x86-64.so.2
    let plain = name.split(".so").next().unwrap_or(&name);
    let plain = plain.strip_suffix("static").unwrap_or(plain);
    listed(&name) || listed(&versionless(&name)) || listed(&versionless(plain))
}

/// Whether a library of this file name is an interpreter.
pub(super) fn is_interpreter(library: &Path) -> bool {
    let Some(name) = library.file_name() else { return false };
    let name = name.to_string_lossy().to_ascii_lowercase();
    INTERPRETERS.split_ascii_whitespace().any(|library| name.starts_with(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &str, expected: bool) {
        for name in names.split_ascii_whitespace() {
            assert_eq!(is_program(name), expected, "{name}");
        }
    }

    #[test]
    fn programs_are_known_by_their_names_whatever_their_version() {
        check(
            "python3.11 python3 python bash BASH node perl5.36.0 php-fpm8.2 php8.2 lua5.4 gdb curl socat",
            true,
        );
        check("sqlite3 nc.openbsd busybox busybox.static m4 ruby3.1 python3.13-static pypy3", true);
        check("ld-linux-x86-64.so.2 ld-musl-x86_64.so.1 ld-linux-aarch64.so.1", true);
        check("payments sleep bashful nodes python-like-name shell static libc.so.6 7zz", false);
        assert!(!is_program(""));
    }

    #[test]
    fn libraries_are_known_by_how_their_names_begin() {
        for (path, expected) in [
            ("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", true),
            ("/usr/lib/jvm/java-17/lib/server/libjvm.so", true),
            ("/usr/lib/libc.so.6", false),
            ("/usr/lib/libpython3/libc.so.6", false),
            ("/", false),
        ] {
            assert_eq!(is_interpreter(Path::new(path)), expected, "{path}");
        }
    }
}
