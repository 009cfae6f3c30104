//! A container image of a few files, FROM scratch, as the archive that containerd imports in place of a pull.
//! Written by tar and sha256sum in Docker's archive format. claviger's own image is not made here: `deploy/image` makes it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

/// Writes the image `name` to `archive`. `files` are the program that it starts and others, each with its path in the image
/// (as in `bin/app`); they keep their modes and belong to root.
///
/// # Panics
/// When a file is not there, or a tool failed.
pub fn write_image(archive: &Path, name: &str, files: &[(&Path, &str)]) {
    let made = tempfile::tempdir().unwrap_or_else(|error| panic!("making a folder for {name}: {error}"));
    let (root, parts) = (made.path().join("root"), made.path().join("parts"));
    for folder in [&root, &parts] {
        fs::create_dir(folder).unwrap_or_else(|error| panic!("making {}: {error}", folder.display()));
    }
    for (from, to) in files {
        let to = root.join(to);
        let mut copy = Command::new("install");
        // By mode: who may only execute the program in the image may not read it there.
        copy.args(["-D", "-m", &mode(from)]).arg(from).arg(to);
        run(&mut copy);
    }
    tar(&parts.join("layer.tar"), &root);
    let digest = run(Command::new("sha256sum").arg(parts.join("layer.tar")));
    let digest = digest.split(' ').next().unwrap_or_default();
    let entry = files.first().map(|(_, to)| format!("/{to}"));
    let write = |file: &str, value: serde_json::Value| {
        fs::write(parts.join(file), value.to_string())
            .unwrap_or_else(|error| panic!("writing {file}: {error}"));
    };
    write(
        "config.json",
        json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": [entry], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        }),
    );
    write("manifest.json", json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]));
    tar(archive, &parts);
}

fn mode(file: &Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(file).unwrap_or_else(|error| panic!("looking at {}: {error}", file.display()));
    format!("{:o}", mode.permissions().mode() & 0o777)
}

fn tar(archive: &Path, folder: &Path) {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--sort=name", "-cf"]);
    run(command.arg(archive).arg("-C").arg(folder).arg("."));
}

fn run(command: &mut Command) -> String {
    let ran = command.stdin(Stdio::null()).output();
    let ran = ran.unwrap_or_else(|error| panic!("running {:?}: {error}", command.get_program()));
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}
