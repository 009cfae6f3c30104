//! An event as the one line that is hashed, kept and printed: canonical JSON (RFC 8785), written by hand into a buffer
//! that is used again, with no map in between; which keys there are, and in which order.
//!
//! Pure. Does not decide what an event says. Lines never pass [`LONGEST`]: long texts are cut, and the line says so.

use super::{
    approved::write_approval,
    chain::Chain,
    event::{
        Actor, AgentFacts, Agg, Cache, ContainerRef, Event, Outcome, Pod, Resource, RuleRef, Signed, SinkRef,
        Trace, Type, UpstreamRef, VaultRef,
    },
    exposed::write_exposure,
    pen::{Caps, Paths, Pen, whole},
    reported::write_report,
    rotated::write_rotation,
    used::write_usage,
};
use crate::clock::Timestamp;
use std::time::Duration;

/// The longest line in bytes: container runtimes split lines of standard output at 16 KiB.
pub(super) const LONGEST: usize = 16_000;

/// What a line says beside its event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The agent, as a URN.
    pub(super) source: &'a str,
    /// The pod that the agent is in.
    pub(super) pod: Option<&'a Pod>,
    /// How paths are written.
    pub(super) paths: Paths,
    /// When the event happened; not before the event before it.
    pub(super) time: Timestamp,
    /// When the journal took it.
    pub(super) recorded: Timestamp,
    /// Since the agent started.
    pub(super) mono: Duration,
    /// What it continues.
    pub(super) chain: &'a Chain,
}

/// Appends the line of `event`, without a line end.
pub(super) fn render(out: &mut Vec<u8>, event: &Event, frame: &Frame<'_>) {
    let start = out.len();
    let size = |out: &Vec<u8>| out.len().saturating_sub(start);
    let roomy = Caps { text: 4_096, keys: 256, original: None };
    let left_out = write(out, event, frame, roomy);
    if left_out == 0 && size(out) <= LONGEST {
        return;
    }
    let original = Some(size(out).saturating_add(left_out));
    let tight = size(out) > LONGEST - 64;
    out.truncate(start);
    let caps = if tight { Caps { text: 512, keys: 16, original } } else { Caps { original, ..roomy } };
    write(out, event, frame, caps);
}

/// The keys stand in the order of RFC 8785, which for ASCII is the order of their bytes.
fn write(out: &mut Vec<u8>, event: &Event, frame: &Frame<'_>, caps: Caps) -> usize {
    let Event {
        kind,
        outcome,
        reason,
        time: _,
        workload: _,
        actor,
        before,
        identity,
        resource,
        rule,
        vault: _,
        upstream: _,
        cache,
        latency,
        agent,
        agg,
        sink,
        trace: _,
        rotation,
        usage: _,
        report,
        exposure,
        approval,
    } = event;
    let (uid, seq) = (frame.chain.last.chain, frame.chain.next());
    let mut pen = Pen::new(out, caps);
    pen.open();
    pen.object("actor", actor.as_ref(), write_actor);
    pen.object("agent", agent.as_ref(), |pen, facts| write_agent(pen, facts, *kind));
    pen.object("agg", agg.as_ref(), write_agg);
    pen.object("approval", approval.as_deref(), write_approval);
    pen.object("before", before.as_ref(), write_container);
    pen.object("cache", cache.as_ref(), write_cache);
    pen.object("chain", Some(frame.chain), write_chain);
    pen.object("exposure", exposure.as_deref(), write_exposure);
    pen.quoted("id", format_args!("{uid}-{seq:020}"));
    pen.text("identity", identity.as_ref().map(|name| name.as_str()));
    pen.object("k8s", frame.pod, write_pod);
    pen.number("latency_us", latency.map(|latency| whole(latency.as_micros())));
    pen.quoted("mono_ns", frame.mono.as_nanos());
    pen.number("orig_size", caps.original.map(|size| whole(size as u128)));
    pen.quoted("outcome", outcome.word());
    pen.text("reason", reason.map(|reason| reason.word()));
    pen.quoted("recorded", format_args!("{:.6}", frame.recorded));
    pen.object("report", report.as_deref(), write_report);
    pen.object("resource", resource.as_ref(), |pen, resource| write_resource(pen, resource, frame.paths));
    pen.object("rotation", rotation.as_deref(), write_rotation);
    pen.object("rule", rule.as_ref(), write_rule);
    pen.quoted("seq", format_args!("{seq:020}"));
    pen.number("severity", Some(severity(event)));
    pen.object("sink", sink.as_ref(), write_sink);
    pen.text("source", Some(frame.source));
    pen.quoted("time", format_args!("{:.6}", frame.time));
    write_end(&mut pen, event, frame, caps);
    pen.close();
    pen.left_out
}

/// What comes last in the order of the keys.
fn write_end(pen: &mut Pen<'_>, event: &Event, frame: &Frame<'_>, caps: Caps) {
    let Event { kind, trace, upstream, usage, vault, workload, .. } = event;
    pen.object("trace", trace.as_ref(), write_trace);
    pen.bare("truncated", caps.original.map(|_| true));
    pen.quoted("type", kind.word());
    pen.object("upstream", upstream.as_deref(), |pen, call| write_upstream(pen, call, frame.paths));
    pen.object("usage", usage.as_deref(), |pen, part| write_usage(pen, part, frame.paths));
    pen.object("vault", vault.as_ref(), write_vault);
    pen.text("workload", workload.as_ref().map(|name| name.as_str()));
}

fn write_chain(pen: &mut Pen<'_>, chain: &Chain) {
    pen.hex("prev", "", &chain.hash);
    pen.quoted("uid", chain.last.chain);
}

/// OpenTelemetry's severity numbers: INFO, WARN, ERROR, FATAL.
fn severity(event: &Event) -> u64 {
    if let Some(severity) = event.report.as_ref().and_then(|report| report.severity()) {
        return severity;
    }
    if matches!(event.kind, Type::ApprovalBreakGlass | Type::ExposureFound) {
        // FATAL: somebody is to look now.
        return 21;
    }
    match event.outcome {
        Outcome::Allow => 9,
        Outcome::Deny => 13,
        Outcome::Error => 17,
    }
}

fn write_actor(pen: &mut Pen<'_>, actor: &Actor) {
    let Actor { uid, gid, pid, start_time, pidfd_ino, level, exe_sha256, container } = actor;
    pen.object("container", container.as_ref(), write_container);
    if let Some(digest) = exe_sha256 {
        pen.hex("exe_sha256", "", digest);
    }
    pen.number("gid", Some(u64::from(*gid)));
    pen.quoted("level", level.word());
    match pid {
        Some(pid) => pen.bare("pid", Some(pid)),
        None => pen.quoted("pid", "hidden"),
    }
    if let Some(inode) = pidfd_ino {
        pen.quoted("pidfd_ino", inode);
    }
    if let Some(ticks) = start_time {
        pen.quoted("start_time", ticks);
    }
    pen.number("uid", Some(u64::from(*uid)));
}

fn write_agent(pen: &mut Pen<'_>, facts: &AgentFacts, kind: Type) {
    let AgentFacts {
        version,
        revision,
        health,
        problems,
        keys,
        sandbox,
        jump_ms,
        skew_ms,
        chain,
        from_seq,
        to_seq,
        last_hash,
        undelivered,
        signed,
    } = facts;
    let (from, last) = if kind == Type::AuditRecovered { (None, *from_seq) } else { (*from_seq, None) };
    pen.text("chain", chain.as_deref());
    pen.seq("from", from);
    if let Some(health) = health {
        pen.quoted("health", health);
    }
    pen.bare("jump_ms", *jump_ms);
    pen.list("keys", keys);
    pen.text("last_hash", last_hash.as_deref());
    pen.seq("last_seq", last);
    pen.number("problems", *problems);
    pen.text("revision", revision.as_deref());
    pen.text("sandbox", sandbox.as_deref());
    pen.object("signed", signed.as_deref(), |pen, Signed { by, key, certificate, note }| {
        pen.quoted("by", by);
        pen.text("cert", certificate.as_deref());
        pen.text("key", key.as_deref());
        pen.text("note", note.as_deref());
    });
    pen.bare("skew_ms", *skew_ms);
    pen.seq("to", *to_seq);
    pen.number("undelivered", *undelivered);
    pen.text("version", *version);
}

fn write_container(pen: &mut Pen<'_>, container: &ContainerRef) {
    let ContainerRef { id, name } = container;
    pen.text("id", Some(id));
    pen.text("name", name.as_deref());
}

fn write_pod(pen: &mut Pen<'_>, pod: &Pod) {
    let Pod { cluster: _, namespace, name, uid, service_account, node, owner } = pod;
    pen.text("node", node.as_deref());
    pen.text("ns", namespace.as_deref());
    pen.text("owner", owner.as_deref());
    pen.text("pod", name.as_deref());
    pen.text("pod_uid", uid.as_deref());
    pen.text("sa", service_account.as_deref());
}

fn write_trace(pen: &mut Pen<'_>, trace: &Trace) {
    let Trace { id, span } = trace;
    pen.hex("id", "", id);
    pen.hex("span", "", span);
}

fn write_agg(pen: &mut Pen<'_>, agg: &Agg) {
    let Agg { count, first, last } = agg;
    pen.number("count", Some(*count));
    pen.quoted("first", format_args!("{first:.6}"));
    pen.quoted("last", format_args!("{last:.6}"));
}

fn write_cache(pen: &mut Pen<'_>, cache: &Cache) {
    let Cache { hit, age } = cache;
    pen.number("age_ms", Some(whole(age.as_millis())));
    pen.bare("hit", Some(hit));
}

fn write_resource(pen: &mut Pen<'_>, resource: &Resource, paths: Paths) {
    let Resource { secret, kind, mount, operation, path, field, version, lease_id_hash, fingerprint } =
        resource;
    pen.text("field", field.as_deref());
    pen.text("fp", fingerprint.as_deref());
    pen.text("kind", *kind);
    pen.text("lease_id_hash", lease_id_hash.as_deref());
    pen.text("mount", mount.as_deref().filter(|_| paths == Paths::Clear));
    pen.text("operation", *operation);
    pen.path(path.as_deref(), paths);
    pen.text("secret", secret.as_ref().map(|name| name.as_str()));
    pen.number("version", *version);
}

fn write_rule(pen: &mut Pen<'_>, rule: &RuleRef) {
    let RuleRef { name, revision, mode } = rule;
    pen.quoted("mode", mode.word());
    pen.text("name", Some(name.as_str()));
    pen.text("rev", Some(revision));
}

fn write_sink(pen: &mut Pen<'_>, sink: &SinkRef) {
    let SinkRef { name, code, events, of } = sink;
    pen.text("code", code.as_deref());
    pen.number("events", *events);
    pen.quoted("name", name);
    pen.number("of", *of);
}

fn write_upstream(pen: &mut Pen<'_>, call: &UpstreamRef, paths: Paths) {
    let hex = |pen: &mut Pen<'_>, key, hash: &Option<crate::crypto::Hash>| {
        if let Some(hash) = hash {
            pen.hex(key, "", hash);
        }
    };
    if let Some(address) = call.address {
        pen.quoted("addr", address);
    }
    pen.number("attempt", call.attempt.map(u64::from));
    hex(pen, "body_hmac", &call.body_hmac);
    pen.list("dropped", &call.dropped);
    pen.text("end", call.end);
    pen.number("first_byte_us", call.first_byte_us);
    pen.text("intent", call.intent.as_deref());
    pen.object("masked", Some(&call.masked).filter(|masked| !masked.is_empty()), |pen, masked| {
        for (form, times) in masked {
            pen.number(form, Some(*times));
        }
    });
    pen.text("method", call.method.as_deref());
    pen.text("name", call.name.as_ref().map(|name| name.as_str()));
    pen.path(call.path.as_deref(), paths);
    pen.list("query", &call.query);
    hex(pen, "query_hmac", &call.query_hmac);
    pen.number("received", call.received);
    pen.text("redirect", call.redirect.as_deref());
    pen.number("sent", call.sent);
    pen.text("slot", call.slot);
    hex(pen, "spki", &call.spki);
    pen.number("status", call.status.map(u64::from));
    pen.text("tls", call.tls);
}

fn write_vault(pen: &mut Pen<'_>, vault: &VaultRef) {
    let VaultRef { address, namespace, request_id, entity_id, role, ttl, status, sent } = vault;
    pen.text("addr", address.as_deref());
    pen.text("entity_id", entity_id.as_deref());
    pen.text("ns", namespace.as_deref());
    pen.text("request_id", request_id.as_deref());
    pen.text("role", role.as_deref());
    pen.number("sent", *sent);
    pen.number("status", status.map(u64::from));
    pen.number("ttl", *ttl);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{chain::ChainId, pen::EXACT},
        name::{IdentityName, RuleName, SecretName, WorkloadName},
        peer::level::Level,
        policy::rule::AuditMode,
    };
    use proptest::prelude::{Strategy, any, prop, proptest};
    use serde_json::{Map, Value, json};

    const SOURCE: &str = "urn:claviger:prod/payments/api-7c9d/claviger";

    fn line(event: &Event, paths: Paths) -> String {
        let chain = Chain::new(ChainId::new(1_795_000_000_000, [3; 10]));
        let frame = Frame {
            source: SOURCE,
            pod: None,
            paths,
            time: event.time,
            recorded: "2026-11-23T21:44:00.123701Z".parse().unwrap(),
            mono: Duration::from_nanos(93_120_551),
            chain: &chain,
        };
        let mut out = b"before".to_vec();
        render(&mut out, event, &frame);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn read() -> Event {
        let time = "2026-11-23T21:44:00.123456Z".parse().unwrap();
        let mut event = Event::new(Type::SecretRead, Outcome::Allow, time);
        event.workload = Some(WorkloadName::new("report-job").unwrap());
        event.identity = Some(IdentityName::new("reports").unwrap());
        event.actor = Some(Actor {
            uid: 20_001,
            gid: 20_001,
            pid: Some(4_242),
            start_time: None,
            pidfd_ino: Some(77),
            level: Level::Process,
            exe_sha256: None,
            container: None,
        });
        event.resource = Some(Resource {
            secret: Some(SecretName::new("stripe").unwrap()),
            kind: Some("kv"),
            path: Some("secret/payments/stripe".into()),
            field: Some("api_key".into()),
            version: Some(7),
            ..Resource::default()
        });
        event.rule = Some(RuleRef {
            name: RuleName::new("payments").unwrap(),
            revision: "sha256:77ab".into(),
            mode: AuditMode::Strict,
        });
        event.cache = Some(Cache { hit: true, age: Duration::from_millis(812) });
        event.latency = Some(Duration::from_micros(183));
        event
    }

    #[test]
    fn a_read_is_one_sorted_line() {
        let chain = ChainId::new(1_795_000_000_000, [3; 10]);
        let zeros = "0".repeat(64);
        let expected = [
            r#"{"actor":{"gid":20001,"level":"process","pid":4242,"pidfd_ino":"77","uid":20001},"#,
            r#""cache":{"age_ms":812,"hit":true},"#,
            &format!(r#""chain":{{"prev":"{zeros}","uid":"{chain}"}},"id":"{chain}-00000000000000000001","#),
            r#""identity":"reports","latency_us":183,"mono_ns":"93120551","outcome":"allow","#,
            r#""recorded":"2026-11-23T21:44:00.123701Z","#,
            r#""resource":{"field":"api_key","kind":"kv","path":"secret/payments/stripe","secret":"stripe","#,
            r#""version":7},"rule":{"mode":"strict","name":"payments","rev":"sha256:77ab"},"#,
            r#""seq":"00000000000000000001","severity":9,"#,
            r#""source":"urn:claviger:prod/payments/api-7c9d/claviger","time":"2026-11-23T21:44:00.123456Z","#,
            r#""type":"secret.read.v1","workload":"report-job"}"#,
        ];
        assert_eq!(line(&read(), Paths::Clear), expected.concat());
    }

    /// An event of a read at level `process` in a pod, with everything that it can have.
    #[test]
    fn a_read_in_a_pod_names_the_pod_the_trace_and_the_credential_in_sorted_order() {
        let mut event = read();
        let actor = event.actor.as_mut().unwrap();
        actor.start_time = Some(118_273);
        let resource = event.resource.as_mut().unwrap();
        resource.mount = Some("secret".into());
        resource.fingerprint = Some(format!("k3:hmac-sha256:{}", "1a".repeat(32)));
        event.trace = Some(Trace { id: [0x4b; 16], span: [7; 8] });
        let text = |text: &str| Some(text.to_owned());
        let pod = Pod {
            cluster: text("prod"),
            namespace: text("payments"),
            name: text("api-7c9d"),
            uid: text("0d0c0b0a-0000-4000-8000-000000000001"),
            service_account: text("api"),
            node: text("ip-10-0-1-17"),
            owner: text("api"),
        };
        let chain = Chain::new(ChainId::new(1_795_000_000_000, [3; 10]));
        let frame = |pod| Frame {
            source: SOURCE,
            pod,
            paths: Paths::Clear,
            time: event.time,
            recorded: event.time,
            mono: Duration::from_nanos(93_120_551),
            chain: &chain,
        };
        let mut out = Vec::new();
        render(&mut out, &event, &frame(Some(&pod)));
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap().into_bytes(), out);
        let ours = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or("missing");
        for (pointer, expected) in [
            ("/actor/start_time", "118273"),
            ("/k8s/node", "ip-10-0-1-17"),
            ("/k8s/ns", "payments"),
            ("/k8s/owner", "api"),
            ("/k8s/pod", "api-7c9d"),
            ("/k8s/pod_uid", "0d0c0b0a-0000-4000-8000-000000000001"),
            ("/k8s/sa", "api"),
            ("/resource/mount", "secret"),
            ("/trace/id", "4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b"),
            ("/trace/span", "0707070707070707"),
        ] {
            assert_eq!(ours(pointer), expected, "{pointer}");
        }
        let sizes = [line(&read(), Paths::Clear).len(), out.len()];
        // With names of this length `k8s` takes 137 bytes, `fp` 87, `trace` 76, `start_time` 22 and `mount` 17.
        assert_eq!(sizes, [758, 758 + 137 + 87 + 76 + 22 + 17]);
    }

    #[test]
    fn a_hidden_pid_is_never_zero() {
        let mut event = read();
        event.actor = Some(Actor {
            uid: 1,
            gid: 1,
            pid: None,
            start_time: None,
            pidfd_ino: None,
            level: Level::User,
            exe_sha256: None,
            container: None,
        });
        assert!(line(&event, Paths::Clear).contains(r#""pid":"hidden""#));
    }

    #[test]
    fn hashed_paths_do_not_show_the_path() {
        let text = line(&read(), Paths::Hashed);
        let hash = crate::crypto::hex(&crate::crypto::sha256(b"secret/payments/stripe"));
        assert!(text.contains(&format!(r#""path":"sha256:{hash}""#)), "{text}");
        assert!(!text.contains("payments/stripe") && !text.contains("mount"), "{text}");
    }

    #[test]
    fn the_last_event_of_an_earlier_chain_is_named_last() {
        let facts = AgentFacts {
            chain: Some("C".into()),
            from_seq: Some(7),
            last_hash: Some("ab".into()),
            ..AgentFacts::default()
        };
        let mut event = Event::new(Type::AuditRecovered, Outcome::Allow, Timestamp::UNIX_EPOCH);
        event.agent = Some(facts);
        let text = line(&event, Paths::Clear);
        assert!(
            text.contains(r#""agent":{"chain":"C","last_hash":"ab","last_seq":"00000000000000000007"}"#),
            "{text}"
        );
    }

    #[test]
    fn a_line_is_never_longer_than_a_container_runtime_keeps() {
        for long in ["\u{1}".repeat(70_000), "ü".repeat(9_000), "\"".repeat(3_000), "x".repeat(5_000)] {
            let mut event = read();
            event.resource =
                Some(Resource { path: Some(long.clone()), field: Some(long.clone()), ..Resource::default() });
            let some = Some(long.clone());
            event.vault = Some(VaultRef {
                address: some.clone(),
                namespace: some.clone(),
                request_id: some.clone(),
                entity_id: some.clone(),
                role: some,
                ttl: None,
                status: None,
                sent: None,
            });
            event.agent = Some(AgentFacts { keys: vec![long.clone(); 1_000], ..AgentFacts::default() });
            let text = line(&event, Paths::Clear);
            assert!(text.len() <= LONGEST, "{}", text.len());
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["truncated"], true);
            assert!(value["orig_size"].as_u64().unwrap() > long.len() as u64 * 1_000);
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }
    }

    #[test]
    fn numbers_that_json_readers_would_round_are_kept_below() {
        let mut event = read();
        event.resource = Some(Resource { version: Some(u64::MAX), ..Resource::default() });
        assert!(line(&event, Paths::Clear).contains(r#""version":9007199254740991"#));
    }

    fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            map.insert(key.to_owned(), value.into());
        }
    }

    /// The same event by way of serde_json's sorted maps.
    fn by_maps(event: &Event) -> String {
        let chain = ChainId::new(1_795_000_000_000, [3; 10]);
        let mut resource = Map::new();
        let source = event.resource.clone().unwrap();
        put(&mut resource, "path", source.path);
        put(&mut resource, "field", source.field);
        put(&mut resource, "fp", source.fingerprint);
        put(&mut resource, "mount", source.mount);
        put(&mut resource, "version", source.version);
        put(&mut resource, "lease_id_hash", source.lease_id_hash);
        put(&mut resource, "kind", source.kind);
        put(&mut resource, "operation", source.operation);
        let mut vault = Map::new();
        let source = event.vault.clone().unwrap();
        put(&mut vault, "addr", source.address);
        put(&mut vault, "ns", source.namespace);
        put(&mut vault, "request_id", source.request_id);
        put(&mut vault, "entity_id", source.entity_id);
        put(&mut vault, "role", source.role);
        put(&mut vault, "ttl", source.ttl);
        put(&mut vault, "status", source.status);
        put(&mut vault, "sent", source.sent);
        let mut agent = Map::new();
        let source = event.agent.clone().unwrap();
        put(&mut agent, "version", source.version);
        put(&mut agent, "revision", source.revision);
        put(&mut agent, "sandbox", source.sandbox.as_deref());
        put(&mut agent, "problems", source.problems);
        put(&mut agent, "jump_ms", source.jump_ms);
        put(&mut agent, "skew_ms", source.skew_ms);
        put(&mut agent, "from", source.from_seq.map(|seq| format!("{seq:020}")));
        put(&mut agent, "to", source.to_seq.map(|seq| format!("{seq:020}")));
        put(&mut agent, "last_hash", source.last_hash);
        put(&mut agent, "undelivered", source.undelivered);
        put(&mut agent, "keys", (!source.keys.is_empty()).then_some(source.keys));
        let mut all = Map::new();
        put(&mut all, "reason", event.reason.map(Reason::word));
        all.extend([
            ("resource".to_owned(), Value::Object(resource)),
            ("vault".to_owned(), Value::Object(vault)),
            ("agent".to_owned(), Value::Object(agent)),
            ("chain".to_owned(), json!({"uid": chain.as_str(), "prev": "0".repeat(64)})),
            ("id".to_owned(), json!(format!("{chain}-00000000000000000001"))),
            ("seq".to_owned(), json!("00000000000000000001")),
            ("source".to_owned(), json!(SOURCE)),
            ("mono_ns".to_owned(), json!("93120551")),
            ("recorded".to_owned(), json!("2026-11-23T21:44:00.123701Z")),
            ("time".to_owned(), json!(crate::clock::rfc3339(event.time))),
            ("type".to_owned(), json!(event.kind.word())),
            ("outcome".to_owned(), json!(event.outcome.word())),
            ("severity".to_owned(), json!(severity(event))),
        ]);
        serde_json::to_string(&Value::Object(all)).unwrap()
    }

    use crate::audit::event::Reason;

    fn text() -> impl Strategy<Value = Option<String>> {
        prop::option::of(prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter))
    }

    fn small() -> impl Strategy<Value = Option<u64>> {
        prop::option::of(0..=EXACT)
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_sorted_maps_give(
            texts in prop::array::uniform11(text()),
            numbers in prop::array::uniform3(small()),
            seqs in prop::array::uniform2(prop::option::of(any::<u64>())),
            jumps in prop::array::uniform2(prop::option::of(any::<i64>())),
            keys in prop::collection::vec("\\PC{0,20}", 0..4),
            status in any::<Option<u16>>(),
            micros in 0_i64..4_102_444_800_000_000,
            outcome in prop::sample::select(vec![Outcome::Allow, Outcome::Deny, Outcome::Error]),
        ) {
            let time = Timestamp::from_microsecond(micros).unwrap();
            let mut event = Event::new(Type::ConfigLoaded, outcome, time);
            let [a, b, c, d, e, f, g, h, i, j, k] = texts;
            let [version, ttl, problems] = numbers;
            event.reason = (outcome != Outcome::Allow).then_some(Reason::NoRule);
            event.resource = Some(Resource {
                secret: None, kind: Some("kv"), mount: j, operation: Some("read"), path: a, field: b, version, lease_id_hash: c, fingerprint: k,
            });
            event.vault = Some(VaultRef { address: d, namespace: e, request_id: f, entity_id: g, role: h, ttl, status, sent: version });
            event.agent = Some(AgentFacts {
                version: Some("0.1.0"), revision: i, health: None, problems, keys, sandbox: Some("dumpable=no".into()),
                jump_ms: jumps[0], skew_ms: jumps[1], chain: None,
                from_seq: seqs[0], to_seq: seqs[1], last_hash: None, undelivered: problems, signed: None,
            });
            assert_eq!(line(&event, Paths::Clear), by_maps(&event));
        }
    }
}
