//! Runs Helm on the charts of this repository, and reads what it renders. Needs no cluster.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chart.
pub(crate) const CHART: &str = "helm/claviger";

/// Helm with a home of its own.
pub(crate) struct Helm {
    pub(crate) program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    /// `None`: skip the test.
    pub(crate) fn find() -> Option<Self> {
        Some(Self { program: lab::require_or_skip("helm")?, home: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn run(&self, line: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(line).current_dir(root()).env_clear().env("HOME", self.home.path());
        command.output().unwrap()
    }

    /// What it prints when all goes well.
    pub(crate) fn prints(&self, line: &[&str]) -> String {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {line:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `values` render to, on Kubernetes 1.36.3 in the namespace `team-a`.
    pub(crate) fn renders(&self, values: &str) -> Vec<Value> {
        let file = self.write(values);
        documents(&self.prints(&Self::template(&file)))
    }

    /// What is said when `values` are refused, without Helm's own words around it.
    pub(crate) fn refuses(&self, values: &str) -> String {
        let file = self.write(values);
        let output = self.run(&Self::template(&file));
        assert!(!output.status.success(), "it was taken: {values}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn template(file: &str) -> [&str; 10] {
        let (name, version) = ("claviger", "1.36.3");
        [
            "template",
            name,
            CHART,
            "--namespace",
            "team-a",
            "--kube-version",
            version,
            "--values",
            file,
            "--debug=false",
        ]
    }

    fn write(&self, values: &str) -> String {
        let file = self.home.path().join("values.yaml");
        fs::write(&file, values).unwrap();
        file.display().to_string()
    }
}

/// The values that the repository shows, by name.
pub(crate) fn examples() -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(root().join(CHART).join("ci"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name =
                path.file_name().unwrap().to_str().unwrap().trim_end_matches("-values.yaml").to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    assert!(found.len() >= 5, "the examples were not found");
    found
}

/// The values of one of them.
pub(crate) fn example(name: &str) -> String {
    examples().into_iter().find(|(found, _)| found == name).unwrap().1
}

/// The objects of a stream of YAML.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    parts.map(yaml).filter(|object| !object.is_null()).collect()
}

pub(crate) fn yaml(text: &str) -> Value {
    serde_yaml::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// The one object of this kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|found| found["kind"] == kind && found["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// All of this kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|found| found["kind"] == kind).collect()
}
