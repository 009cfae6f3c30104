//! The key-value engine, versions 1 and 2: reads, writes, check-and-set, metadata, lists, deletion.

use serde_json::{Value, json};

use crate::bench::Bench;

contract!(
    version_1_reads_back_what_was_written,
    version_1_says_for_how_long_a_value_may_be_kept,
    version_2_counts_versions,
    version_2_refuses_a_stale_check_and_set,
    version_2_may_require_check_and_set,
    version_2_reads_an_old_version,
    version_2_keeps_metadata_of_each_version,
    version_2_deletes_undeletes_and_destroys,
    version_2_forgets_everything_with_its_metadata,
    version_2_merges_a_patch,
    version_2_answers_404_outside_its_areas,
    lists_name_folders_with_a_slash,
    the_mount_tells_its_version,
);

async fn kv2(bench: &Bench) -> String {
    bench.mount("kv2", json!({ "type": "kv", "options": { "version": "2" } })).await
}

async fn kv1(bench: &Bench) -> String {
    bench.mount("kv1", json!({ "type": "kv", "options": { "version": "1" } })).await
}

async fn version_1_reads_back_what_was_written(bench: &Bench) {
    let path = format!("{}/a", kv1(bench).await);
    bench.get(&path, &bench.root).await.fails(404, &[]);
    bench.post(&path, &bench.root, json!({})).await.fails(400, &["missing data fields"]);
    bench.post(&path, &bench.root, json!({ "k": "v", "n": 1 })).await.is(204);
    let read = bench.get(&path, &bench.root).await.is(200);
    assert_eq!(read.body["data"], json!({ "k": "v", "n": 1 }));
    assert_eq!(
        (read.number("/lease_duration"), read.text("/lease_id"), read.text("/mount_type")),
        (2_764_800, String::new(), "kv".into())
    );
    bench.delete(&path, &bench.root).await.is(204);
    bench.delete(&path, &bench.root).await.is(204);
    bench.get(&path, &bench.root).await.fails(404, &[]);
}

async fn version_1_says_for_how_long_a_value_may_be_kept(bench: &Bench) {
    let path = format!("{}/a", kv1(bench).await);
    bench.post(&path, &bench.root, json!({ "k": "v", "ttl": "30s" })).await.is(204);
    assert_eq!(bench.get(&path, &bench.root).await.number("/lease_duration"), 30);
}

async fn version_2_counts_versions(bench: &Bench) {
    let path = format!("{}/data/a", kv2(bench).await);
    bench.get(&path, &bench.root).await.fails(404, &[]);
    for version in 1..=2 {
        let written = bench.post(&path, &bench.root, json!({ "data": { "n": version } })).await.is(200);
        let mut data = written.body["data"].clone();
        assert!(
            data.as_object_mut().unwrap().remove("created_time").unwrap().as_str().unwrap().ends_with('Z')
        );
        let expected =
            json!({ "custom_metadata": null, "deletion_time": "", "destroyed": false, "version": version });
        assert_eq!(data, expected);
    }
    let read = bench.get(&path, &bench.root).await.is(200);
    assert_eq!(read.body["data"]["data"], json!({ "n": 2 }));
    assert_eq!((read.number("/data/metadata/version"), read.number("/lease_duration")), (2, 0));
    assert_eq!((read.text("/mount_type"), &read.body["renewable"]), ("kv".into(), &Value::Bool(false)));
    bench.post(&path, &bench.root, json!({ "k": "v" })).await.fails(400, &["no data provided"]);
}

async fn version_2_refuses_a_stale_check_and_set(bench: &Bench) {
    let path = format!("{}/data/a", kv2(bench).await);
    let write = async |cas: u64| {
        bench.post(&path, &bench.root, json!({ "data": {}, "options": { "cas": cas } })).await
    };
    let error = "check-and-set parameter did not match the current version";
    write(1).await.fails(400, &[error]);
    write(0).await.is(200);
    write(0).await.fails(400, &[error]);
    write(1).await.is(200);
}

async fn version_2_may_require_check_and_set(bench: &Bench) {
    let mount = kv2(bench).await;
    bench.prepare(&format!("{mount}/config"), json!({ "cas_required": true })).await;
    let error = "check-and-set parameter required for this call";
    let path = format!("{mount}/data/a");
    bench.post(&path, &bench.root, json!({ "data": { "k": "v" } })).await.fails(400, &[error]);
    let with = json!({ "data": { "k": "v" }, "options": { "cas": 0 } });
    bench.post(&path, &bench.root, with).await.is(200);
}

async fn version_2_reads_an_old_version(bench: &Bench) {
    let path = format!("{}/data/a", kv2(bench).await);
    for n in 1..=3 {
        bench.prepare(&path, json!({ "data": { "n": n } })).await;
    }
    let read = bench.get(&format!("{path}?version=2"), &bench.root).await.is(200);
    assert_eq!((&read.body["data"]["data"]["n"], read.number("/data/metadata/version")), (&json!(2), 2));
    assert_eq!(
        bench.get(&format!("{path}?version=0"), &bench.root).await.number("/data/metadata/version"),
        3
    );
    bench.get(&format!("{path}?version=9"), &bench.root).await.fails(404, &[]);
}

async fn version_2_keeps_metadata_of_each_version(bench: &Bench) {
    let mount = kv2(bench).await;
    for n in 1..=2 {
        bench.prepare(&format!("{mount}/data/a"), json!({ "data": { "n": n } })).await;
    }
    let settings = json!({ "custom_metadata": { "owner": "x" }, "max_versions": 5 });
    bench.prepare(&format!("{mount}/metadata/a"), settings).await;
    let read = bench.get(&format!("{mount}/metadata/a"), &bench.root).await.is(200);
    assert_eq!((read.number("/data/current_version"), read.number("/data/oldest_version")), (2, 0));
    assert_eq!(
        (read.number("/data/max_versions"), &read.body["data"]["cas_required"]),
        (5, &Value::Bool(false))
    );
    assert_eq!(read.body["data"]["custom_metadata"], json!({ "owner": "x" }));
    assert_eq!(read.text("/data/delete_version_after"), "0s");
    for field in ["created_time", "updated_time", "versions/1/created_time"] {
        assert!(read.text(&format!("/data/{field}")).ends_with('Z'));
    }
    assert_eq!(
        (read.text("/data/versions/2/deletion_time"), &read.body["data"]["versions"]["2"]["destroyed"]),
        (String::new(), &Value::Bool(false))
    );
    bench.get(&format!("{mount}/metadata/none"), &bench.root).await.fails(404, &[]);
}

async fn version_2_deletes_undeletes_and_destroys(bench: &Bench) {
    let mount = kv2(bench).await;
    let path = format!("{mount}/data/a");
    bench.prepare(&path, json!({ "data": { "k": "v" } })).await;
    bench.delete(&path, &bench.root).await.is(204);
    let gone = bench.get(&path, &bench.root).await.is(404);
    assert_eq!(gone.body["data"]["data"], Value::Null);
    assert!(gone.text("/data/metadata/deletion_time").ends_with('Z'));
    assert_eq!(gone.text("/mount_type"), "");
    bench.post(&format!("{mount}/undelete/a"), &bench.root, json!({ "versions": [1] })).await.is(204);
    bench.get(&path, &bench.root).await.is(200);
    bench.post(&format!("{mount}/destroy/a"), &bench.root, json!({ "versions": [1] })).await.is(204);
    let gone = bench.get(&path, &bench.root).await.is(404);
    assert_eq!(
        (&gone.body["data"]["metadata"]["destroyed"], gone.text("/data/metadata/deletion_time")),
        (&Value::Bool(true), String::new())
    );
    for area in ["delete", "undelete"] {
        bench.post(&format!("{mount}/{area}/none"), &bench.root, json!({ "versions": [1] })).await.is(204);
    }
}

async fn version_2_forgets_everything_with_its_metadata(bench: &Bench) {
    let mount = kv2(bench).await;
    bench.prepare(&format!("{mount}/data/a"), json!({ "data": { "k": "v" } })).await;
    bench.delete(&format!("{mount}/metadata/a"), &bench.root).await.is(204);
    bench.get(&format!("{mount}/data/a"), &bench.root).await.fails(404, &[]);
    let again = bench.prepare(&format!("{mount}/data/a"), json!({ "data": { "k": "v" } })).await;
    assert_eq!(again.number("/data/version"), 1);
}

async fn version_2_merges_a_patch(bench: &Bench) {
    let path = format!("{}/data/a", kv2(bench).await);
    let merge = [("content-type", "application/merge-patch+json")];
    let changes = json!({ "data": { "k": null, "n": { "b": 2 }, "new": "1" } });
    bench.send("PATCH", &path, &bench.root, Some(changes.clone()), &merge).await.is(404);
    bench.prepare(&path, json!({ "data": { "k": "v", "n": { "a": 1 } } })).await;
    let patched = bench.send("PATCH", &path, &bench.root, Some(changes), &merge).await.is(200);
    assert_eq!(patched.number("/data/version"), 2);
    let read = bench.get(&path, &bench.root).await.is(200);
    assert_eq!(read.body["data"]["data"], json!({ "n": { "a": 1, "b": 2 }, "new": "1" }));
}

async fn version_2_answers_404_outside_its_areas(bench: &Bench) {
    let mount = kv2(bench).await;
    for path in [format!("{mount}/nonsense/a"), format!("{mount}/data/")] {
        let answer = bench.get(&path, &bench.root).await.is(404);
        assert_eq!(answer.body["data"], Value::Null);
        assert!(answer.text("/warnings/0").starts_with("Invalid path for a versioned K/V secrets engine."));
    }
}

async fn lists_name_folders_with_a_slash(bench: &Bench) {
    let (one, two) = (kv1(bench).await, kv2(bench).await);
    for path in ["a", "b/c", "b/d"] {
        bench.prepare(&format!("{one}/{path}"), json!({ "k": "v" })).await;
        bench.prepare(&format!("{two}/data/{path}"), json!({ "data": { "k": "v" } })).await;
    }
    for folder in [format!("{one}/"), format!("{two}/metadata/"), format!("{two}/metadata")] {
        let listed = bench.list(&folder, &bench.root).await.is(200);
        assert_eq!(listed.body["data"], json!({ "keys": ["a", "b/"] }));
    }
    for query in ["list=true", "list=1", "list=T", "list=true&list=false"] {
        let listed = bench.get(&format!("{two}/metadata/b?{query}"), &bench.root).await.is(200);
        assert_eq!(listed.body["data"], json!({ "keys": ["c", "d"] }), "{query}");
    }
    bench.list(&format!("{two}/metadata/none"), &bench.root).await.fails(404, &[]);
    bench.list(&format!("{one}/none"), &bench.root).await.fails(404, &[]);
}

async fn the_mount_tells_its_version(bench: &Bench) {
    let (one, two) = (kv1(bench).await, kv2(bench).await);
    let policy = format!(
        r#"path "{one}/a" {{ capabilities = ["read"] }} path "{two}/data/*" {{ capabilities = ["read"] }}"#
    );
    let policy = bench.policy("reader", &policy).await;
    let token = bench.token(json!({ "policies": [policy], "ttl": "60s" })).await.token();
    for (mount, version) in [(&one, "1"), (&two, "2")] {
        let told = bench.get(&format!("sys/internal/ui/mounts/{mount}/some/path"), &token).await.is(200);
        assert_eq!(told.body["data"]["options"], json!({ "version": version }));
        assert_eq!((told.text("/data/path"), told.text("/data/type")), (format!("{mount}/"), "kv".into()));
    }
    let other = bench.mount("kv1-other", json!({ "type": "kv" })).await;
    for path in [other.as_str(), "nonsense"] {
        let error = format!(
            "preflight capability check returned 403, please ensure client's policies grant access to path \"{path}/\""
        );
        bench.get(&format!("sys/internal/ui/mounts/{path}"), &token).await.fails(403, &[&error]);
    }
}
