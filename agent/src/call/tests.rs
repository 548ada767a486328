#![allow(clippy::disallowed_methods, reason = "a panic of a task fails the test that waits for it")]

#[cfg(unix)]
use fleet::call::{Hook, HookFailure};
use fleet::spec::Secret;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;

fn tries(most: u32) -> Tries {
    Tries { timeout: Duration::from_secs(5), most, interval: Duration::from_millis(10) }
}

fn caller(dir: &Path) -> Caller {
    Caller::new(Pins::open(dir), None)
}

/// Answers each connection with the next of `answers` and hands over what it was asked.
async fn answering(answers: Vec<String>) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            heard.send(String::from_utf8_lossy(&request[..read]).into_owned()).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

fn response(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn http(url: String) -> HttpCall {
    HttpCall {
        method: Method::Patch,
        url,
        status: 200,
        contains: None,
        body: Some("{\"drain\":true}".to_owned()),
        authorization: Some(Credential::Value(Secret::new("Bearer s3cret"))),
        certificate: None,
    }
}

#[tokio::test]
async fn a_url_is_asked_again_until_it_answers_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut asked) = answering(vec![response(503, "s3cret"), response(200, "fine")]).await;
    let call = Call::Http(http(format!("http://127.0.0.1:{port}/api/9/servers/1?x=y")));
    let done = caller(dir.path()).tried(&call, &tries(3)).await.unwrap();
    assert_eq!(done, format!("PATCH http://127.0.0.1:{port}/api/9/servers/1: status 200"));
    let first = asked.recv().await.unwrap();
    assert!(first.starts_with("PATCH /api/9/servers/1?x=y HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("authorization: Bearer s3cret\r\n"), "{first}");
    assert!(first.contains("content-type: application/json\r\n"), "{first}");
}

#[tokio::test]
async fn a_failure_names_what_was_expected_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _asked) = answering(vec![response(401, "s3cret"), response(200, "no s3cret")]).await;
    let mut call = http(format!("http://127.0.0.1:{port}/?key=hidden"));
    let one = |call: &HttpCall| Call::Http(call.clone());
    let why = caller(dir.path()).tried(&one(&call), &tries(1)).await.unwrap_err();
    assert_eq!(why, format!("PATCH http://127.0.0.1:{port}/: status 401, not 200"));
    call.contains = Some("hidden".to_owned());
    let why = caller(dir.path()).tried(&one(&call), &tries(1)).await.unwrap_err();
    let end = "status 200, but the answer does not hold the text of `contains`";
    assert!(why.ends_with(end) && !why.contains("s3cret") && !why.contains("hidden"), "{why}");
}

#[tokio::test]
async fn a_token_is_obtained_and_carried_and_never_told() {
    let dir = tempfile::tempdir().unwrap();
    let token = response(200, "{\"access_token\":\"t0ken\",\"expires_in\":3600}");
    let (port, mut asked) = answering(vec![token.clone(), response(200, "hello")]).await;
    let call = |port: u16| {
        let request = HttpCall {
            method: Method::Get,
            body: None,
            authorization: None,
            ..http(format!("http://127.0.0.1:{port}/api"))
        };
        Call::Token(TokenCall {
            token_url: format!("http://127.0.0.1:{port}/oauth2/token"),
            client_id: "gate".to_owned(),
            client_secret: Credential::Value(Secret::new("p w")),
            scope: "a b".to_owned(),
            token_certificate: None,
            request,
        })
    };
    caller(dir.path()).tried(&call(port), &tries(1)).await.unwrap();
    let first = asked.recv().await.unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode("gate:p+w");
    assert!(first.contains(&format!("authorization: Basic {basic}\r\n")), "{first}");
    assert!(first.ends_with("grant_type=client_credentials&scope=a+b"), "{first}");
    assert!(asked.recv().await.unwrap().contains("authorization: Bearer t0ken\r\n"));

    let (port, _asked) = answering(vec![token, response(403, "t0ken")]).await;
    let why = caller(dir.path()).tried(&call(port), &tries(1)).await.unwrap_err();
    assert!(why.ends_with("with a token: status 403, not 200"), "{why}");
    let (port, _asked) = answering(vec![response(401, "p w")]).await;
    let why = caller(dir.path()).tried(&call(port), &tries(1)).await.unwrap_err();
    assert!(why.ends_with("no token: status 401, not 200"), "{why}");
}

/// The words are HAProxy's own: its management guide, and what 2.6 prints.
#[cfg(unix)]
#[tokio::test]
async fn what_haproxy_does_with_a_server_is_read_from_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("haproxy.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let call = fleet::call::HaproxyCall {
        balancer: fleet::balancer::Kind::Haproxy,
        socket: socket.display().to_string(),
        backend: "be".to_owned(),
        server: "is-1".to_owned(),
        state: HaproxyState::Ready,
        listens: None,
    };
    let cases = [
        ("UP", Some(HaproxyState::Ready)),
        ("UP 1/3", Some(HaproxyState::Ready)),
        ("DOWN", Some(HaproxyState::Ready)),
        ("no check", Some(HaproxyState::Ready)),
        ("DRAIN", Some(HaproxyState::Drain)),
        ("MAINT", Some(HaproxyState::Maint)),
        ("MAINT (via be/is-2)", Some(HaproxyState::Maint)),
        ("MAINT(via be/is-2)", Some(HaproxyState::Maint)),
    ];
    for (status, expected) in cases {
        let asking = rotation(&call);
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            assert!(0 < stream.read(&mut request).await.unwrap());
            let table = format!("# pxname,svname,scur,status\nbe,other,0,MAINT\nbe,is-1,0,{status}\n\n");
            stream.write_all(table.as_bytes()).await.unwrap();
        };
        assert_eq!(tokio::join!(asking, answering).0, expected, "{status}");
    }
    drop(listener);
    assert_eq!(rotation(&call).await, None, "nobody answers");
}

/// A runtime socket in `dir` that gives one answer after another, and a hook that speaks to it; the commands that it
/// was given come out at the end.
#[cfg(unix)]
fn haproxy(
    dir: &Path,
    state: HaproxyState,
    answers: Vec<String>,
) -> (Hook, tokio::task::JoinHandle<Vec<String>>) {
    let socket = dir.join(format!("{}.sock", state.as_str()));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            asked.push(String::from_utf8_lossy(&request[..read]).trim().to_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    let call = fleet::call::HaproxyCall {
        balancer: fleet::balancer::Kind::Haproxy,
        socket: socket.display().to_string(),
        backend: "be".to_owned(),
        server: "is-1".to_owned(),
        state,
        listens: None,
    };
    let settle = Duration::from_secs(20);
    (Hook { call: Call::Haproxy(call), tries: tries(1), settle, on_failure: HookFailure::Abort }, asked)
}

/// What `show stat` says of two servers, one of them `is-1`.
#[cfg(unix)]
fn statistics(sessions: u32, status: &str, check: &str) -> String {
    format!(
        "# pxname,svname,scur,smax,status,check_status,check_code,\nbe,other,9,9,UP,L7OK,200,\n\
         be,is-1,{sessions},5,{status},{check},\n\n"
    )
}

#[cfg(unix)]
#[tokio::test]
async fn a_drain_ends_when_no_session_is_left_and_a_refusal_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let stat = |left: u32| statistics(left, "DRAIN", "L7OK,200");
    let answers = ["\n".to_owned(), stat(2), stat(0), "No such server.\n\n".to_owned()];
    let (hook, asked) = haproxy(dir.path(), HaproxyState::Drain, answers.into());
    let done = caller(dir.path()).hook(&hook).await.unwrap();
    assert!(done.contains("done; no session left after "), "{done}");
    let why = caller(dir.path()).hook(&hook).await.unwrap_err();
    assert!(why.ends_with("it said: No such server."), "{why}");
    let expected = ["set server be/is-1 state drain", "show stat -1 4 -1", "show stat -1 4 -1"];
    assert_eq!(asked.await.unwrap()[..3], expected);
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_is_in_service_when_haproxy_sends_requests_there_and_not_when_it_was_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let down = statistics(0, "DOWN 1/2", "L7STS,503");
    let answers = ["\n".to_owned(), down.clone(), down, statistics(0, "UP 1/3", "L7OK,200")];
    let (hook, asked) = haproxy(dir.path(), HaproxyState::Ready, answers.into());
    let done = caller(dir.path()).tried(&hook.call, &tries(1)).await.unwrap();
    assert!(done.contains("done; in service after "), "{done}");
    let expected =
        ["set server be/is-1 state ready", "show stat -1 4 -1", "show stat -1 4 -1", "show stat -1 4 -1"];
    assert_eq!(asked.await.unwrap(), expected);
}

#[cfg(unix)]
#[tokio::test]
async fn haproxy_is_told_where_a_server_listens_before_it_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = |port: u16, check: u16| {
        format!("1\n# be_id ...\n3 be 1 is-1 10.0.0.1 0 8 1 1 1 8 2 0 6 0 0 0 - {port} - 0 {check} - - 0\n\n")
    };
    let answers = [
        state(9443, 9763),
        "port changed\n".to_owned(),
        "check port changed\n".to_owned(),
        state(9445, 9765),
        "\n".to_owned(),
        statistics(0, "UP", "L7OK,200"),
        state(9443, 9763),
        "no\n".to_owned(),
        "no\n".to_owned(),
        state(9443, 9763),
    ];
    let (mut hook, asked) = haproxy(dir.path(), HaproxyState::Ready, answers.into());
    if let Call::Haproxy(call) = &mut hook.call {
        call.listens = Some(fleet::call::Listens { port: 9445, check: Some(9765) });
    }
    let done = caller(dir.path()).tried(&hook.call, &tries(1)).await.unwrap();
    assert!(done.ends_with(": done"), "{done}");
    let why = caller(dir.path()).tried(&hook.call, &tries(1)).await.unwrap_err();
    assert!(why.ends_with("it keeps sending requests to port 9443, and the server listens on 9445"), "{why}");
    let expected = [
        "show servers state be",
        "set server be/is-1 addr 10.0.0.1 port 9445",
        "set server be/is-1 check-port 9765",
        "show servers state be",
        "set server be/is-1 state ready",
    ];
    assert_eq!(asked.await.unwrap()[..5], expected);
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_haproxy_does_not_have_yet_is_not_put_back_and_that_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    for answer in ["No such server.\n\n", "No such backend.\n\n"] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let (hook, _asked) = haproxy(dir.path(), HaproxyState::Ready, vec![answer.to_owned()]);
        let done = caller(dir.path()).tried(&hook.call, &tries(1)).await.unwrap();
        assert!(done.contains("HAProxy has no server be/is-1, so there was nothing to put back"), "{done}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_haproxy_does_not_take_back_is_told_with_what_its_check_says() {
    let dir = tempfile::tempdir().unwrap();
    let answers = ["\n".to_owned(), statistics(0, "DOWN", "L7STS,503")];
    let (hook, _asked) = haproxy(dir.path(), HaproxyState::Ready, answers.into());
    let at_once = Tries { timeout: Duration::from_millis(400), ..tries(1) };
    let why = caller(dir.path()).tried(&hook.call, &at_once).await.unwrap_err();
    assert!(why.contains("it was told so, and sends no requests there after "), "{why}");
    assert!(why.ends_with("it holds the server DOWN (health check: L7STS 503)"), "{why}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_has_no_shell_no_environment_and_no_end_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("check");
    let text = "#!/bin/sh\n[ \"$1\" = slow ] && { sleep 60 & sleep 60; }\n[ -z \"$CARGO\" ] || exit 3\n\
                [ \"$1\" = '$HOME; x' ] || { echo first; echo \"password=s3cret\" >&2; exit 7; }\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = script.display().to_string();
    let call =
        |arg: &str| Call::Command(CommandCall { program: program.clone(), args: vec![arg.to_owned()] });
    let caller = caller(dir.path());
    assert_eq!(caller.tried(&call("$HOME; x"), &tries(1)).await, Ok(format!("{program}: exit status 0")));
    let why = caller.tried(&call("bad"), &tries(2)).await.unwrap_err();
    assert!(why.contains("exit status 7: password=") && !why.contains("s3cret"), "{why}");
    assert!(why.ends_with("(2 tries)"), "{why}");
    let short = Tries { timeout: Duration::from_millis(200), ..tries(1) };
    let why = caller.tried(&call("slow"), &short).await.unwrap_err();
    assert!(why.ends_with("no answer within 200ms"), "{why}");
}

#[test]
fn nobody_is_trusted_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let caller = caller(dir.path());
    assert!(matches!(caller.trust(None, "localhost", 9443), Ok(Trust::FirstUse { .. })));
    assert!(matches!(caller.trust(Some(Digest([1; 32])), "lb", 443), Ok(Trust::Exactly(_))));
    assert!(caller.trust(None, "lb", 443).unwrap_err().contains("nobody vouches"));
}

fn measured(port: u16, on_inconclusive: OnInconclusive) -> Call {
    Call::Prometheus(PrometheusCall {
        url: format!("http://127.0.0.1:{port}/prom/"),
        query: "sum(rate(errors_total{job=\"a b\"}[5m]))".to_owned(),
        bound: measure::Bound { min: None, max: measure::Finite::new(0.5) },
        authorization: Some(Credential::Value(Secret::new("Bearer s3cret"))),
        certificate: None,
        inconclusive: 2,
        on_inconclusive,
    })
}

fn vector(value: &str) -> String {
    let sample = format!("[{{\"metric\":{{}},\"value\":[1,\"{value}\"]}}]");
    response(
        200,
        &format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{sample}}}}}"),
    )
}

#[tokio::test]
async fn prometheus_is_asked_until_its_value_is_within_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut asked) = answering(vec![vector("0.9"), vector("NaN"), vector("0.25")]).await;
    let call = measured(port, OnInconclusive::Fail);
    let done = caller(dir.path()).tried(&call, &tries(2)).await;
    assert_eq!(done, Ok(format!("Prometheus http://127.0.0.1:{port}/prom/: 0.25")));
    let first = asked.recv().await.unwrap();
    assert!(first.starts_with("POST /prom/api/v1/query HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("authorization: Bearer s3cret\r\n"), "{first}");
    assert!(first.ends_with("query=sum%28rate%28errors_total%7Bjob%3D%22a+b%22%7D%5B5m%5D%29%29"), "{first}");
}

#[tokio::test]
async fn what_fails_and_what_is_inconclusive_end_apart() {
    let dir = tempfile::tempdir().unwrap();
    let caller = caller(dir.path());
    // One inconclusive try between two failures: the failures end it.
    let (port, _asked) = answering(vec![vector("0.9"), response(503, "s3cret"), vector("0.7")]).await;
    let why = caller.tried(&measured(port, OnInconclusive::Pass), &tries(2)).await.unwrap_err();
    assert!(why.ends_with(": 0.7 is above 0.5 (3 tries)"), "{why}");
    let unknown = || vec![response(503, "s3cret"), vector("0.9"), response(200, "<html>")];
    let (port, _asked) = answering(unknown()).await;
    let why = caller.tried(&measured(port, OnInconclusive::Fail), &tries(2)).await.unwrap_err();
    assert!(why.ends_with(": inconclusive: the answer is not that of a Prometheus (3 tries)"), "{why}");
    let (port, _asked) = answering(unknown()).await;
    let said = caller.tried(&measured(port, OnInconclusive::Pass), &tries(2)).await.unwrap();
    assert!(said.contains(": inconclusive: "), "{said}");
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().port();
    drop(listener);
    let why = caller.tried(&measured(gone, OnInconclusive::Fail), &tries(9)).await.unwrap_err();
    assert!(why.contains(": inconclusive: ") && why.ends_with("(2 tries)"), "{why}");
}
