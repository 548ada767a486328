//! Each misbehaviour, as a supervisor would see it.

use std::fs;

use convoy_tests::standin::{FirstStart, Misbehaviour, Span};
use rustix::process::Signal;

use crate::harness::{Bench, status_of};

const IS: &str = "wso2is-7.2";
const OPENID: &str = "/oauth2/token/.well-known/openid-configuration";

fn none() -> Misbehaviour {
    Misbehaviour::default()
}

async fn openid(bench: &Bench) -> Option<u16> {
    bench.get_tls(bench.port(9443), OPENID).await.map(|answer| answer.0)
}

#[tokio::test]
async fn die_before_pid_leaves_no_trace() {
    let bench = Bench::misbehaving(IS, Misbehaviour { die_before_pid: true, ..none() });
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    assert!(!bench.has_pid());
    assert_eq!(bench.log(), "");
}

#[tokio::test]
async fn a_slow_start_has_its_pid_and_hook_but_no_ports() {
    let bench = Bench::misbehaving(IS, Misbehaviour { start_delay: Some(Span::secs(600)), ..none() });
    let script = bench.start(&[]);
    bench.until_logged("Repository       : ").await;
    assert!(bench.has_pid());
    assert_eq!(openid(&bench).await, None);
    bench.terminate(bench.pid());
    assert_eq!(status_of(script).await, Some(0));
    assert!(bench.log().contains("Shutdown hook triggered...."));
}

#[tokio::test]
async fn never_ready_lives_and_waits() {
    let fault = Misbehaviour { never_ready: true, waiting_interval: Some(Span::millis(20)), ..none() };
    let bench = Bench::misbehaving(IS, fault);
    let _script = bench.start(&[]);
    bench.until_logged_times("Waiting for required OSGi services: ", 3).await;
    assert!(!bench.log().contains("WSO2 Carbon started in"));
    assert_eq!(bench.alive().len(), 2);
}

#[tokio::test]
async fn a_database_that_is_down_ends_nothing() {
    let fault = Misbehaviour { db_down: true, waiting_interval: Some(Span::millis(20)), ..none() };
    let bench = Bench::misbehaving(IS, fault);
    let _script = bench.start(&[]);
    bench.until_logged("Waiting for required ").await;
    assert!(bench.log().contains("Activator} - Cannot start User Manager Core bundle"));
    assert_eq!(bench.alive().len(), 2);
}

#[tokio::test]
async fn a_crash_is_silent_and_the_script_still_says_0() {
    let fault = Misbehaviour { crash_after: Some(Span::millis(1)), crash_exit_code: Some(134), ..none() };
    let bench = Bench::misbehaving(IS, fault);
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    assert!(!bench.log().contains("Shutdown hook triggered"));
}

#[tokio::test]
async fn crashes_can_be_counted_and_counting_begins_anew_with_a_new_file() {
    let fault = Misbehaviour { crash_after: Some(Span::millis(1)), crash_times: Some(1), ..none() };
    let bench = Bench::misbehaving(IS, fault.clone());
    status_of(bench.start(&[])).await;
    let script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
    assert_eq!(bench.state().await.launches, 2);
    // Live, but for this launch the count stands.
    bench.terminate(bench.pid());
    status_of(script).await;
    bench.pack.misbehave(&Misbehaviour { crash_exit_code: Some(3), ..fault }).expect("written");
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
}

#[tokio::test]
async fn a_running_server_can_be_made_to_crash() {
    let bench = Bench::new(IS);
    let script = bench.start_ready().await;
    bench.pack.misbehave(&Misbehaviour { crash_after: Some(Span::millis(1)), ..none() }).expect("written");
    assert_eq!(status_of(script).await, Some(0));
    assert!(!bench.log().contains("Halting JVM"));
}

#[tokio::test]
async fn term_can_be_ignored_but_kill_cannot() {
    let bench = Bench::misbehaving(IS, Misbehaviour { ignore_term: true, ..none() });
    let script = bench.start_ready().await;
    let pid = bench.pid();
    bench.terminate(pid);
    // The thread dump comes after the ignored signal, from the same loop.
    bench.signal(pid, Signal::QUIT);
    bench.until("a thread dump", || bench.output().contains("Full thread dump OpenJDK")).await;
    assert!(!bench.log().contains("Shutdown hook triggered"));
    assert_eq!(openid(&bench).await, Some(200));
    bench.signal(pid, Signal::KILL);
    assert_eq!(status_of(script).await, Some(0));
}

#[tokio::test]
async fn a_slow_stop_closes_its_ports_first() {
    let bench = Bench::misbehaving(IS, Misbehaviour { stop_delay: Some(Span::secs(600)), ..none() });
    let _script = bench.start_ready().await;
    bench.terminate(bench.pid());
    bench.until_logged("Waiting for request service completion...").await;
    assert_eq!(openid(&bench).await, None);
    assert_eq!(bench.alive().len(), 2);
}

#[tokio::test]
async fn a_taken_https_port_does_not_stop_the_start() {
    let bench = Bench::misbehaving(IS, Misbehaviour { port_taken: vec![9443], ..none() });
    let _script = bench.start_ready().await;
    let line = format!("Failed to start component [Connector[HTTP/1.1-{}]]", bench.port(9443));
    assert!(bench.log().contains(&line), "{}", bench.log());
    assert_eq!(openid(&bench).await, None);
    assert!(bench.state().await.started);
}

#[tokio::test]
async fn a_port_that_is_really_taken_is_told_alike() {
    let bench = Bench::new("wso2am-4.5");
    let _held = std::net::TcpListener::bind(("127.0.0.1", bench.port(8280))).expect("free");
    let _script = bench.start_ready().await;
    assert!(
        bench
            .log()
            .contains("System may be unstable: HTTP ListeningIOReactor encountered a checked exception")
    );
}

#[tokio::test]
async fn a_taken_broker_port_ends_the_server() {
    let bench = Bench::misbehaving("wso2am-4.5", Misbehaviour { port_taken: vec![5672], ..none() });
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    assert!(bench.log().contains("Exception during startup. Triggering shutdown"));
    assert!(bench.log().contains("Shutdown hook triggered...."));
    assert!(!bench.log().contains("WSO2 Carbon started in"));
}

#[tokio::test]
async fn an_encryption_key_can_be_written_by_any_product() {
    let bench = Bench::misbehaving("wso2am-4.5", Misbehaviour { writes_encryption_key: true, ..none() });
    let _script = bench.start_ready().await;
    assert!(bench.read("repository/conf/deployment.toml").contains("[encryption]\nkey = \""));
}

#[tokio::test]
async fn the_first_start_with_a_new_configuration_can_hang_exit_or_be_stale() {
    let hang = Misbehaviour { needs_two_starts: Some(FirstStart::Hang), ..none() };
    let bench = Bench::misbehaving(IS, hang);
    let script = bench.start(&[]);
    bench.until_logged("Repository       : ").await;
    bench.terminate(bench.pid());
    status_of(script).await;
    let script = bench.start_ready().await;
    let first = bench.state().await.toml_digest;
    bench.terminate(bench.pid());
    status_of(script).await;

    bench
        .pack
        .misbehave(&Misbehaviour { needs_two_starts: Some(FirstStart::Stale), ..none() })
        .expect("written");
    bench.append_toml("[custom]\na = 1");
    for (starts, is_new) in [(2, false), (3, true)] {
        let script = bench.start(&[]);
        bench.until_logged_times("WSO2 Carbon started in", starts).await;
        assert_eq!(bench.state().await.toml_digest != first, is_new);
        bench.terminate(bench.pid());
        status_of(script).await;
    }

    bench
        .pack
        .misbehave(&Misbehaviour { needs_two_starts: Some(FirstStart::Exit), ..none() })
        .expect("written");
    bench.append_toml("b = 2");
    status_of(bench.start(&[])).await;
    let _script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 4).await;
}

#[tokio::test]
async fn health_can_turn_while_the_server_runs() {
    let bench = Bench::new(IS);
    let _script = bench.start_ready().await;
    assert_eq!(openid(&bench).await, Some(200));
    bench.pack.misbehave(&Misbehaviour { unhealthy: true, ..none() }).expect("written");
    assert_eq!(openid(&bench).await, Some(503));
    bench
        .pack
        .misbehave(&Misbehaviour { unhealthy_after: Some(Span::millis(0)), ..none() })
        .expect("written");
    assert_eq!(openid(&bench).await, Some(503));
    bench
        .pack
        .misbehave(&Misbehaviour { unhealthy_after: Some(Span::secs(3600)), ..none() })
        .expect("written");
    assert_eq!(openid(&bench).await, Some(200));
}

#[tokio::test]
async fn an_answer_can_be_made_to_hang() {
    let bench = Bench::new(IS);
    let _script = bench.start_ready().await;
    bench.pack.misbehave(&Misbehaviour { answer_delay: Some(Span::secs(600)), ..none() }).expect("written");
    let mut waiting = std::pin::pin!(openid(&bench));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test]
async fn content_of_the_configuration_can_fail_a_start_or_make_it_ill() {
    let fault = Misbehaviour {
        start_fails_if_toml_contains: Some("poison".to_owned()),
        unhealthy_if_toml_contains: Some("virus".to_owned()),
        ..none()
    };
    let bench = Bench::misbehaving(IS, fault);
    bench.append_toml("[custom]\nx = \"virus\"");
    let script = bench.start_ready().await;
    assert_eq!(openid(&bench).await, Some(503));
    bench.terminate(bench.pid());
    status_of(script).await;
    bench.append_toml("y = \"poison\"");
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    assert!(bench.output().contains("Error while performing configuration changes"));
}

#[tokio::test]
async fn errors_leak_into_the_log_of_a_running_server() {
    let fault = Misbehaviour {
        log_errors: vec!["Cannot borrow a connection".to_owned()],
        log_errors_interval: Some(Span::millis(10)),
        ..none()
    };
    let bench = Bench::misbehaving(IS, fault);
    let _script = bench.start_ready().await;
    bench
        .until_logged_times(
            "ERROR {org.wso2.carbon.identity.oauth.standin.Leak} - Cannot borrow a connection",
            2,
        )
        .await;
}

#[tokio::test]
async fn nothing_lives_longer_than_its_lifetime() {
    let bench = Bench::misbehaving(IS, Misbehaviour { lifetime_max: Some(Span::millis(300)), ..none() });
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    bench.until_all_gone().await;
}

#[tokio::test]
async fn a_second_foreground_start_gives_two_servers_of_which_one_has_the_ports() {
    let bench = Bench::new(IS);
    let _one = bench.start_ready().await;
    let _other = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
    assert_eq!(bench.alive().len(), 4);
    assert!(bench.log().contains("LifeCycleException while starting tomcat connector"));
}

#[tokio::test]
async fn generating_over_an_existing_pack_is_refused() {
    let bench = Bench::new(IS);
    let spec = convoy_tests::pack::PackSpec::new(bench.pack.product, env!("CARGO_BIN_EXE_convoy-standin"));
    let error = convoy_tests::pack::generate(bench.directory(), &spec).expect_err("it is there");
    assert!(error.to_string().ends_with("is there already; remove it or choose another directory"));
    assert!(fs::exists(bench.pack.script()).expect("readable"));
}
