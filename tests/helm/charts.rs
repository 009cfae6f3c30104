//! The charts as a whole: Helm's lint, and what is made of them.

use crate::helm::{CHART, Helm, examples, root, yaml};
use std::{fs, process::Command};

#[test]
fn helm_finds_nothing_to_say_against_either_chart_with_any_of_the_examples() {
    let Some(helm) = Helm::find() else { return };
    helm.prints(&["lint", "--strict", "helm/claviger-lib"]);
    helm.prints(&["lint", "--strict", CHART]);
    for (name, _) in examples() {
        let values = format!("{CHART}/ci/{name}-values.yaml");
        let said = helm.prints(&["lint", "--strict", CHART, "--values", &values, "--kube-version", "1.36.3"]);
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{name}: {said}");
    }
}

/// Among them: each example renders exactly its file in `tests/helm/golden`.
#[test]
fn all_that_is_made_of_the_chart_is_what_the_chart_makes_today() {
    let Some(helm) = Helm::find() else { return };
    let mut command = Command::new(root().join("deploy/generate"));
    let output = command.arg("--check").env("HELM", &helm.program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, _) in examples() {
        assert!(root().join(format!("tests/helm/golden/{name}.yaml")).exists(), "{name}");
    }
}

#[test]
fn the_charts_the_image_and_the_program_are_of_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in ["helm/claviger", "helm/claviger-lib"] {
        let chart = yaml(&fs::read_to_string(root().join(chart).join("Chart.yaml")).unwrap());
        assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()), "{chart}");
    }
    let template = fs::read_to_string(root().join("helm/claviger-lib/templates/_sidecar.tpl")).unwrap();
    assert!(template.contains(&format!("define \"claviger.version\" -}}}}{version}{{{{- end")), "{version}");
}

#[test]
fn a_chart_that_was_packaged_renders_what_its_folder_renders() {
    let Some(helm) = Helm::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    helm.prints(&["package", CHART, "--destination", folder.path().to_str().unwrap()]);
    let package = folder.path().join(format!("claviger-{}.tgz", env!("CARGO_PKG_VERSION")));
    let render = |chart: &str| {
        let values = format!("{CHART}/ci/full-values.yaml");
        helm.prints(&["template", "claviger", chart, "--kube-version", "1.36.3", "--values", &values])
    };
    assert_eq!(render(package.to_str().unwrap()), render(CHART));
}
