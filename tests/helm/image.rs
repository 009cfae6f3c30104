//! The image: what is in it, that the same binary gives the same digest, and that the agent runs in it with nothing else.

use crate::{
    helm::root,
    skip,
    support::{Agent, Line, Scene, VALUE, finish},
};
use nix::unistd::{Gid, Uid, chown, geteuid};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Blocking, Output},
};
use tokio::process::Command;

/// The agent's user in the image.
const AGENT: u32 = 65_532;

fn image(line: &[&str]) -> Output {
    Blocking::new(root().join("deploy/image")).args(line).output().unwrap()
}

/// The image that is written, as a folder.
struct Unpacked {
    folder: tempfile::TempDir,
}

impl Unpacked {
    fn of(archive: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Blocking::new("tar").arg("xf").arg(archive).arg("-C").arg(folder.path()));
        Self { folder }
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder.path().join(name)).unwrap()).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let path = self.folder.path().join("blobs").join(digest);
        assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap(), "{descriptor}");
        path
    }

    fn blob_json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.blob(descriptor)).unwrap()).unwrap()
    }
}

fn run(command: &mut Blocking) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A static program that stands in for the agent where only the image's form counts.
fn program(folder: &Path, options: &[&str]) -> String {
    let (source, program) = (folder.join("p.c"), folder.join(format!("p{}", options.len())));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    run(Blocking::new("cc").args(options).arg("-o").arg(&program).arg(&source));
    program.display().to_string()
}

#[test]
fn the_same_binary_gives_the_same_image_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let binary = program(folder.path(), &["-static"]);
    let write = |name: &str, binary: &str| {
        let path = folder.path().join(name);
        let output = image(&["--binary", binary, "--output", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let digest = said.lines().find(|line| line.starts_with("digest ")).unwrap().to_owned();
        (digest, fs::read(path).unwrap())
    };
    let first = write("first", &binary);
    // Another file of another time and mode with the same bytes.
    let copy = format!("{binary}-copy");
    fs::write(&copy, fs::read(&binary).unwrap()).unwrap();
    let second = write("second", &copy);
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the archives differ");
    // The digest is the one that a registry will say.
    let unpacked = Unpacked::of(&folder.path().join("first"));
    let manifest = unpacked.json("index.json")["manifests"][0].clone();
    assert!(first.0.ends_with(manifest["digest"].as_str().unwrap()), "{}", first.0);
    assert!(
        run(Blocking::new("sha256sum").arg(unpacked.blob(&manifest)))
            .starts_with(&manifest["digest"].as_str().unwrap()[7..])
    );
}

#[test]
fn the_image_holds_one_file_of_mode_0111_and_a_user_that_is_not_root() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, archive) = (program(folder.path(), &["-static"]), folder.path().join("image"));
    assert!(image(&["--binary", &binary, "--output", archive.to_str().unwrap()]).status.success());
    let unpacked = Unpacked::of(&archive);
    let manifest = unpacked.blob_json(&unpacked.json("index.json")["manifests"][0]);
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    let listed = run(Blocking::new("tar").arg("tvf").arg(unpacked.blob(&layers[0])));
    let [line] = listed.lines().collect::<Vec<_>>()[..] else { panic!("{listed}") };
    assert!(line.starts_with("---x--x--x 0/0 ") && line.ends_with(" claviger"), "{line}");
    let config = unpacked.blob_json(&manifest["config"]);
    assert_eq!((&config["os"], &config["rootfs"]["diff_ids"][0]), (&"linux".into(), &layers[0]["digest"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/claviger"]));
    // The other way to the image says the same.
    let containerfile = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    for line in
        ["FROM scratch", "--chmod=0111 claviger /claviger", "USER 65532:65532", "ENTRYPOINT [\"/claviger\"]"]
    {
        assert!(containerfile.contains(line), "{line}");
    }
}

#[test]
fn one_image_can_be_for_two_architectures_in_whatever_order_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let binary = program(folder.path(), &["-static"]);
    let mut other = fs::read(&binary).unwrap();
    // e_machine of an ELF header: x86_64 is 62, aarch64 183.
    other[18] = if other[18] == 62 { 183 } else { 62 };
    let other_binary = folder.path().join("other").display().to_string();
    fs::write(&other_binary, other).unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    assert!(
        image(&["--binary", &binary, "--binary", &other_binary, "--output", one.to_str().unwrap()])
            .status
            .success()
    );
    assert!(
        image(&["--binary", &other_binary, "--binary", &binary, "--output", two.to_str().unwrap()])
            .status
            .success()
    );
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
    let unpacked = Unpacked::of(&one);
    let index = unpacked.blob_json(&unpacked.json("index.json")["manifests"][0]);
    let found: Vec<&Value> =
        index["manifests"].as_array().unwrap().iter().map(|one| &one["platform"]["architecture"]).collect();
    assert_eq!(found, ["amd64", "arm64"]);
}

#[test]
fn a_binary_that_needs_libraries_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = image(&[
        "--binary",
        &program(folder.path(), &[]),
        "--output",
        folder.path().join("i").to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("is not static: an image FROM scratch has no libraries"), "{said}");
    assert!(!folder.path().join("i").exists());
}

/// Whether the agent's own image can be built and run here; says why not.
fn can_run() -> bool {
    let there = |program: &str, argument: &str| Blocking::new(program).arg(argument).output().is_ok();
    let missing = if !geteuid().is_root() {
        "needs root"
    } else if !there("runc", "--version") {
        "needs runc; Debian has a package of that name"
    } else if !there("musl-gcc", "--version") {
        "needs musl-gcc; Debian has musl-tools"
    } else {
        return true;
    };
    skip(missing);
    false
}

/// What runc needs to know: as a kubelet would say it for the chart's sidecar.
fn bundle(scene: &Scene, root: &Path) -> Value {
    let folder = scene.path("").display().to_string();
    let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": AGENT, "gid": AGENT}, "cwd": "/", "capabilities": {}, "noNewPrivileges": true, "env": [],
            "args": ["/claviger", "run", "--config", scene.path("config.yaml")],
        },
        "root": {"path": root, "readonly": true},
        "mounts": [
            {"type": "proc", "source": "proc", "destination": "/proc", "options": ["nosuid", "noexec", "nodev"]},
            {"type": "bind", "source": folder, "destination": folder, "options": ["bind", "rw", "nosuid", "nodev"]},
        ],
        "linux": {"namespaces": namespaces},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_runs_in_its_image_with_no_other_file_no_privilege_and_a_read_only_root() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image");
    let output = image(&["--profile", "dev", "--output", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let unpacked = Unpacked::of(&archive);
    let manifest = unpacked.blob_json(&unpacked.json("index.json")["manifests"][0]);
    let files = folder.path().join("bundle/rootfs");
    fs::create_dir_all(&files).unwrap();
    run(Blocking::new("tar").arg("xpf").arg(unpacked.blob(&manifest["layers"][0])).arg("-C").arg(&files));

    let scene = Scene::new().await;
    scene.write(&scene.config().text());
    for name in ["", "run", "role_id", "secret_id", "config.yaml"] {
        chown(&scene.path(name), Some(Uid::from_raw(AGENT)), Some(Gid::from_raw(AGENT))).unwrap();
    }
    let (state, bundle_folder) = (folder.path().join("runc"), folder.path().join("bundle"));
    fs::write(bundle_folder.join("config.json"), bundle(&scene, &files).to_string()).unwrap();
    let name = format!("claviger-image-{}", std::process::id());
    let runc = |line: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state).args(line);
        command
    };
    let agent = Agent::spawn(runc(&["run", "--bundle", bundle_folder.to_str().unwrap(), &name])).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let reply = line.ask("/secrets/stripe").await.unwrap();
    assert!(reply.status == 200 && reply.body.contains(VALUE), "{reply:?}");
    let started = scene.events().into_iter().find(|event| event["type"] == "agent.started.v1").unwrap();
    // Nobody can read the file that it is, so the kernel made it undumpable before its first instruction.
    assert!(started["agent"]["sandbox"].as_str().unwrap().contains("dumpable=no"), "{started}");

    assert!(finish(runc(&["kill", &name, "TERM"])).await.status.success());
    let mut agent = agent;
    assert_eq!(agent.wait().await.code(), Some(0), "{}", agent.stderr());
    assert_eq!(scene.vault.tokens().len(), 0);
}
