//! Messages with numbers at their extremes and bytes that a seed has changed, to every service of the real program, over
//! real TLS: it neither panics nor ends nor grows without bound, and operators are served afterwards.
//!
//! `FUZZ_SECONDS` is how long each service gets (default 3), `FUZZ_SEED` another order of things.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BufMut as _};
use fleet::host::HostFacts;
use prost::Message as _;
use proto::{
    convert::host::{LOOK_PROTOCOL, encode_answer},
    wire::{agent, operator},
};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::{
    hostile::{SIGNED, UNSIGNED, extremes, narrow},
    hosts::{chunks, facts},
    support::{TestCoordinator, TestNode, small_fleet, upload},
};

/// What the process may grow by, bytes: much less than what was sent.
const GROWTH_MAX: u64 = 192 << 20;
/// The longest that one call is waited for.
const CALL_TIME: Duration = Duration::from_secs(20);

/// Bytes as they are, whatever they mean.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

/// The same seed makes the same choices.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(4711);
        println!("FUZZ_SEED={seed}");
        Self(seed)
    }

    /// `splitmix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One of the corpus, as it is or with some of its bytes changed.
    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(corpus).clone();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                // A number of ten bytes: the largest there is.
                1 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1]))),
                2 => drop(bytes.splice(at..at, self.pick(corpus).clone())),
                3 => bytes.extend_from_within(at..),
                _ if at < bytes.len() => bytes[at] = u8::try_from(self.next() & 0xff).unwrap(),
                _ => bytes.push(0x80),
            }
        }
        bytes.truncate(64 * 1024);
        bytes
    }
}

/// The program under fire, and what was sent to it.
struct Target {
    coordinator: TestCoordinator,
    dir: Arc<TempDir>,
    dice: Dice,
    until: Instant,
    begin_rss: u64,
    messages: u64,
}

impl Target {
    async fn open() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let coordinator = TestCoordinator::spawn_in(dir.clone()).await;
        let applied = coordinator.apply(&small_fleet("a.example"), None).await;
        assert!(!applied.refused, "{applied:?}");
        let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
        let begin_rss = rss(coordinator.pid());
        let until = Instant::now() + Duration::from_secs(seconds);
        Self { coordinator, dir, dice: Dice::new(), until, begin_rss, messages: 0 }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// One call with these messages. Any answer is a good one, as long as there is one.
    async fn call(&mut self, channel: &Channel, path: &'static str, messages: Vec<Vec<u8>>) {
        self.messages += messages.len() as u64;
        let mut client = tonic::client::Grpc::new(channel.clone());
        let calling = async {
            if client.ready().await.is_err() {
                return;
            }
            let path = http::uri::PathAndQuery::from_static(path);
            let request = Request::new(tokio_stream::iter(messages));
            let Ok(reply) = client.streaming(request, path, Raw).await else { return };
            let mut replies = reply.into_inner();
            while let Some(Ok(())) = replies.next().await {}
        };
        tokio::time::timeout(CALL_TIME, calling).await.unwrap_or_else(|_| panic!("{path} never ended"));
    }

    /// It lives, nothing in it has panicked, operators are served, and it is not much larger than before.
    async fn has_stood(self, service: &str) {
        let status = self.coordinator.status().await;
        assert!(!status.fleet.is_empty());
        let log = std::fs::read_to_string(self.dir.path().join("coordinator.log")).unwrap();
        let panicked = log.lines().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None, "a panic");
        let end = rss(self.coordinator.pid());
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "{service}: {} messages, no panic, {} MiB resident before and {} MiB after",
            self.messages,
            mib(self.begin_rss),
            mib(end)
        );
        assert!(end < self.begin_rss + GROWTH_MAX, "it has grown to {} MiB", mib(end));
        self.coordinator.kill().await;
    }
}

/// Resident memory of a process, bytes.
pub(crate) fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn encoded(message: agent::from_agent::Message) -> Vec<u8> {
    agent::FromAgent { message: Some(message) }.encode_to_vec()
}

/// Everything that an agent says on its stream.
fn said() -> Vec<Vec<u8>> {
    use agent::from_agent::Message;
    let mut said: Vec<Vec<u8>> =
        extremes().into_iter().map(|report| encoded(Message::Report(report))).collect();
    for n in UNSIGNED {
        let notice = |at_ms| agent::Notice { seq: n, at_ms, kind: "x".into(), ..agent::Notice::default() };
        let notices = SIGNED.into_iter().map(notice).collect();
        said.push(encoded(Message::Notices(agent::Notices { notices })));
        said.push(encoded(Message::Heartbeat(agent::Heartbeat { seq: n, ..agent::Heartbeat::default() })));
        said.push(encoded(Message::Result(agent::CommandResult { id: n, ok: true, detail: "x".into() })));
        let ack = agent::Ack { nonce: n, generation: n, stage: narrow(n) as i32, ..agent::Ack::default() };
        said.push(encoded(Message::Ack(ack)));
    }
    said
}

fn hello(protocol: u32) -> Vec<u8> {
    encoded(agent::from_agent::Message::Hello(agent::Hello { protocol, ..agent::Hello::default() }))
}

#[tokio::test]
async fn no_message_of_an_agent_ends_the_coordinator() {
    let mut target = Target::open().await;
    let node = target.coordinator.join("is-1").await;
    let channel = node.channel(&target.coordinator).await;
    let said = said();
    let fetch = vec![agent::FetchRequest { digests: vec![vec![7; 32], vec![1]] }.encode_to_vec()];
    let packs: Vec<Vec<u8>> = UNSIGNED
        .into_iter()
        .map(|size| {
            agent::PackChunk { digest: vec![7; 32], size, data: vec![1; 9], last: false }.encode_to_vec()
        })
        .collect();
    while target.goes_on() {
        let count = 1 + target.dice.below(24);
        let mut messages = vec![hello(0)];
        messages.extend((0..count).map(|_| target.dice.mutated(&said)));
        target.call(&channel, "/convoy.agent.v1.AgentLink/Session", messages).await;
        let message = target.dice.mutated(&fetch);
        target.call(&channel, "/convoy.agent.v1.AgentLink/Fetch", vec![message]).await;
        let parts = (0..3).map(|_| target.dice.mutated(&packs)).collect();
        target.call(&channel, "/convoy.agent.v1.AgentLink/GivePack", parts).await;
    }
    target.has_stood("agent").await;
}

/// Answers with every number at its extremes.
fn answers() -> Vec<Vec<u8>> {
    let plain = agent::HostFacts::from(&facts());
    let mut answers = vec![encode_answer(&Ok(facts())), encode_answer(&Err("no".to_owned()))];
    for (index, at) in SIGNED.into_iter().enumerate() {
        let n = UNSIGNED[index % UNSIGNED.len()];
        let file = agent::FoundFile {
            digest: vec![7; 32],
            meaning: vec![8; 32],
            size: n,
            mode: narrow(n),
            modified_ms: at,
            ..agent::FoundFile::default()
        };
        let entry = |path: &str| agent::FoundEntry {
            path: path.to_owned(),
            found: Some(agent::found_entry::Found::File(file.clone())),
        };
        let original =
            agent::Original { taken_ms: at, digest: vec![9; 32], before: n, files: narrow(n), bytes: n };
        let server = agent::FoundServer { state: "running".into(), since_ms: at, config_unread: true };
        let facts = agent::HostFacts {
            at_ms: at,
            offset: Some(if index % 2 == 0 { 65_535 } else { narrow(n) }),
            server: Some(server),
            started: true,
            entries: vec![entry(fleet::host::CONFIG), entry("repository/resources/security/a.jks")],
            original: Some(original),
            allowed: Some(agent::Allowances { hosts: vec![":*".into(), "*".into()], ..Default::default() }),
            ..plain.clone()
        };
        let contents = vec![Vec::new(); index];
        let answer = |facts| agent::HostAnswer { refused: String::new(), facts, contents: contents.clone() };
        answers.push(answer(Some(facts.clone())).encode_to_vec());
        // Without contents, it is one that is believed.
        answers.push(agent::HostAnswer { facts: Some(facts), ..Default::default() }.encode_to_vec());
        answers.push(answer(None).encode_to_vec());
    }
    answers
}

/// A node that answers each question about its host with the next of these.
async fn answer_questions(
    node: &TestNode,
    target: &TestCoordinator,
    mut next: impl FnMut() -> Vec<agent::HostChunk>,
) {
    let mut client = agent::agent_link_client::AgentLinkClient::new(node.channel(target).await);
    let mut session = node.session_of(target, LOOK_PROTOCOL).await.unwrap();
    session.say(agent::from_agent::Message::Report(crate::support::report(None, None))).await;
    while let Some(message) = session.listen().await {
        let agent::to_agent::Message::Look(look) = message else { continue };
        if look.more {
            continue;
        }
        let mut parts = next();
        if let Some(first) = parts.first_mut() {
            first.id = look.id;
        }
        // A refusal is a good answer.
        drop(client.give_host(tokio_stream::iter(parts)).await);
    }
}

#[tokio::test]
async fn no_answer_about_a_host_ends_the_coordinator() {
    let mut target = Target::open().await;
    let node = target.coordinator.join("is-1").await;
    let (answers, mut dice) = (answers(), Dice::new());
    let given = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = given.clone();
    let mut turn = 0;
    let next = move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        turn += 1;
        // Each of them once as it is, and then changed.
        let answer = answers.get(turn - 1).cloned().unwrap_or_else(|| dice.mutated(&answers));
        let mut parts = chunks(0, &answer);
        if let Some(first) = parts.first_mut().filter(|_| turn % 3 == 0) {
            first.size = *dice.pick(&UNSIGNED);
        }
        parts
    };
    let mut operator = target.coordinator.operator().await;
    let asking = async {
        let mut files = small_fleet("b.example");
        let mut asked = 0;
        while target.goes_on() || asked < 12 {
            asked += 1;
            // Whoever reads the answer works with its numbers: shows them, and draws plans from them.
            drop(
                operator
                    .show_host(operator::ShowHostRequest { node: "is-1".into(), config: asked % 2 == 0 })
                    .await,
            );
            files.insert("config/common.toml".into(), format!("[server]\nhostname = \"h{asked}.example\"\n"));
            operator.plan(tokio_stream::iter(upload(&files, None))).await.unwrap();
            operator.show_node(operator::NodeRequest { node: "is-1".into() }).await.unwrap();
        }
    };
    tokio::select! {
        () = asking => {}
        () = answer_questions(&node, &target.coordinator, next) => panic!("its session has ended"),
    }
    target.messages = given.load(std::sync::atomic::Ordering::Relaxed);
    target.has_stood("answers about a host").await;
}

/// Requests of every call of operators, by path.
fn requests() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let node = operator::NodeRequest { node: "is-1".into() }.encode_to_vec();
    let mut requests = vec![
        ("/convoy.operator.v1.Operator/Status", vec![Vec::new()]),
        ("/convoy.operator.v1.Operator/ShowNode", vec![node.clone()]),
        ("/convoy.operator.v1.Operator/ShowDrift", vec![node.clone()]),
        ("/convoy.operator.v1.Operator/ForgetNode", vec![node]),
        ("/convoy.operator.v1.Secrets/List", vec![Vec::new()]),
        ("/convoy.operator.v1.Alerts/List", vec![Vec::new()]),
        (
            "/convoy.operator.v1.Alerts/AddSilence",
            vec![operator::AddSilenceRequest { seconds: u64::MAX, ..Default::default() }.encode_to_vec()],
        ),
        ("/convoy.operator.v1.Alerts/RemoveSilence", vec![Vec::new()]),
        (
            "/convoy.operator.v1.Alerts/Test",
            vec![operator::TestChannelRequest { channel: "a".repeat(20_000) }.encode_to_vec()],
        ),
    ];
    let upload = upload(&small_fleet("c.example"), None);
    let upload: Vec<Vec<u8>> = upload.iter().map(prost::Message::encode_to_vec).collect();
    requests.push(("/convoy.operator.v1.Operator/Plan", upload.clone()));
    requests.push(("/convoy.operator.v1.Operator/Apply", upload));
    for n in UNSIGNED {
        let number = |path, message: Vec<u8>| (path, vec![message]);
        let events = operator::EventsRequest { after: n, most: narrow(n), ..Default::default() };
        let control = |action: &str| operator::ControlRolloutRequest {
            rollout: n,
            action: action.into(),
            why: "x".into(),
        };
        let back = operator::RollbackRequest { to_revision: n, parent: Some(n), ..Default::default() };
        let token = operator::CreateTokenRequest { node: "is-1".into(), valid_seconds: n };
        let secret = operator::SetSecretRequest {
            name: "a.b".into(),
            value: "x".repeat(narrow(n).min(20_000) as usize),
        };
        let list = operator::ListRolloutsRequest { most: narrow(n) };
        requests.extend([
            number("/convoy.operator.v1.Operator/Events", events.encode_to_vec()),
            number("/convoy.operator.v1.Operator/ControlRollout", control("pause").encode_to_vec()),
            number("/convoy.operator.v1.Operator/ControlRollout", control("resume").encode_to_vec()),
            number("/convoy.operator.v1.Operator/Rollback", back.encode_to_vec()),
            number("/convoy.operator.v1.Operator/PlanRollback", back.encode_to_vec()),
            number("/convoy.operator.v1.Operator/CreateToken", token.encode_to_vec()),
            number("/convoy.operator.v1.Operator/ListRollouts", list.encode_to_vec()),
            number(
                "/convoy.operator.v1.Operator/ShowRollout",
                operator::RolloutRequest { rollout: n }.encode_to_vec(),
            ),
            number("/convoy.operator.v1.Secrets/Set", secret.encode_to_vec()),
        ]);
        for until_ms in SIGNED {
            let drift = operator::DriftControlRequest {
                node: "is-1".into(),
                action: "pause".into(),
                reason: "x".into(),
                until_ms,
                ..Default::default()
            };
            requests.push(number("/convoy.operator.v1.Operator/DriftControl", drift.encode_to_vec()));
        }
    }
    requests
}

#[tokio::test]
async fn no_request_of_an_operator_ends_the_coordinator() {
    let mut target = Target::open().await;
    let context = target.coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let channel = target.coordinator.channel(identity).await.unwrap();
    let requests = requests();
    while target.goes_on() {
        let (path, corpus) = target.dice.pick(&requests).clone();
        let messages = match corpus.len() {
            1 => vec![target.dice.mutated(&corpus)],
            // An upload with one part that is another.
            count => {
                let changed = target.dice.below(count);
                let other = target.dice.mutated(&corpus);
                let part =
                    |(at, part): (usize, &Vec<u8>)| if at == changed { other.clone() } else { part.clone() };
                corpus.iter().enumerate().map(part).collect()
            }
        };
        // One that follows has no end of its own.
        let follows = path.ends_with("/Events")
            && operator::EventsRequest::decode(messages[0].as_slice()).is_ok_and(|request| request.follow);
        if !follows {
            target.call(&channel, path, messages).await;
        }
    }
    target.has_stood("operator").await;
}

#[tokio::test]
async fn no_request_to_enrol_ends_the_coordinator() {
    let mut target = Target::open().await;
    let token = target.coordinator.token("is-1", 3_600).await.secret.to_hex();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let request = |node: &str, secret: &str, csr: &str| {
        agent::EnrollRequest { node: node.into(), token_secret: secret.into(), csr_pem: csr.into() }
            .encode_to_vec()
    };
    let corpus = vec![
        request(
            "is-1",
            &token,
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        ),
        request("is-1", &"0".repeat(64), &csr),
        request("\u{1b}[2J", &token, &csr[..csr.len() / 2]),
        request("", "", ""),
    ];
    let renewal = vec![agent::RenewRequest { csr_pem: csr.clone() }.encode_to_vec()];
    let stranger = target.coordinator.channel(None).await.unwrap();
    while target.goes_on() {
        let message = target.dice.mutated(&corpus);
        target.call(&stranger, "/convoy.agent.v1.Enrolment/Enroll", vec![message]).await;
        let message = target.dice.mutated(&renewal);
        target.call(&stranger, "/convoy.agent.v1.Enrolment/Renew", vec![message]).await;
    }
    target.has_stood("enrolment").await;
}

/// The facts of these tests are what other tests send too.
#[test]
fn every_answer_of_the_corpus_is_read_or_refused() {
    let read: Vec<Result<HostFacts, String>> =
        answers().iter().filter_map(|answer| proto::convert::host::decode_answer(answer).ok()).collect();
    assert!(4 < read.iter().filter(|answer| answer.is_ok()).count(), "{read:?}");
}
