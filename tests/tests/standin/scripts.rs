//! What each word of the start scripts does, and what is left of the processes afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use convoy_tests::pack::Product;
use convoy_tests::standin::{BOOTSTRAP, Misbehaviour, Span};
use rustix::process::Signal;

use crate::harness::{Bench, finish, status_of};

#[tokio::test]
async fn every_generated_script_is_valid_shell() {
    for product in Product::all() {
        let bench = Bench::new(&product.to_string());
        let scripts =
            walkdir::WalkDir::new(&bench.pack.home).into_iter().map(|entry| entry.expect("an entry"));
        let scripts =
            scripts.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sh"));
        for script in scripts {
            let mut check = tokio::process::Command::new("sh");
            check.arg("-n").arg(script.path());
            let done = finish(check).await;
            assert!(done.status.success(), "{}: {}", script.path().display(), done.output);
        }
    }
}

#[tokio::test]
async fn version_prints_both_files() {
    for word in ["version", "-version", "--version"] {
        let done = Bench::new("wso2is-7.2").run(&[word]).await;
        assert_eq!(done.status.code(), Some(0));
        assert_eq!(done.output, "WSO2 Identity Server v7.2.0\nWSO2 Carbon Framework v4.10.101\n");
    }
}

#[tokio::test]
async fn foreground_keeps_java_as_a_child_and_ends_with_status_0() {
    let bench = Bench::new("wso2is-7.2");
    let script = bench.start_ready().await;
    let pid = bench.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let parent = format!("PPid:\t{}\n", script.id().expect("alive"));
    assert!(status.contains(&parent), "java is not the script's child: {status}");
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a command line");
    let words: Vec<&str> = line.split('\0').collect();
    assert!(words.contains(&format!("-Dcarbon.home={}", bench.pack.home.display()).as_str()), "{words:?}");
    assert!(words.contains(&BOOTSTRAP) && words.contains(&"-Xmx1024m"), "{words:?}");

    bench.terminate(pid);
    assert_eq!(status_of(script).await, Some(0));
    let log = bench.log();
    let order = [
        "Starting WSO2 Carbon...",
        "Repository       : ",
        "HTTPS port       : ",
        "Console URL : ",
        "Server           :  WSO2 Identity Server-7.2.0",
        "WSO2 Carbon started in",
        "Shutdown hook triggered....",
        "Gracefully shutting down WSO2 Identity Server...",
        "Stopped all transport listeners",
        "All requests have been served.",
        "Shutdown complete",
        "Halting JVM",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|line| log.find(line)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{log}");
}

#[tokio::test]
async fn the_pid_file_is_100_bytes_with_nul_padding_and_stays() {
    let bench = Bench::new("wso2is-7.2");
    let script = bench.start_ready().await;
    let pid = bench.pid();
    let bytes = fs::read(bench.pack.home.join("wso2carbon.pid")).expect("a pid file");
    let text = format!("{pid}\n");
    assert_eq!(bytes.len(), 100);
    assert_eq!(&bytes[..text.len()], text.as_bytes());
    assert!(bytes[text.len()..].iter().all(|byte| *byte == 0));
    bench.terminate(pid);
    status_of(script).await;
    assert_eq!(bench.pid(), pid);
}

#[tokio::test]
async fn killing_only_the_script_orphans_java() {
    let bench = Bench::new("wso2is-7.2");
    let script = bench.start_ready().await;
    let parent = i32::try_from(script.id().expect("alive")).expect("a pid");
    bench.terminate(parent);
    assert_eq!(status_of(script).await, None, "ended by the signal");
    let pid = bench.pid();
    assert_eq!(bench.alive(), [u32::try_from(pid).expect("a pid")]);
    assert!(bench.state().await.started);
    bench.terminate(pid);
    bench.until_all_gone().await;
}

#[tokio::test]
async fn status_121_starts_java_again_under_the_same_script() {
    let bench = Bench::misbehaving("wso2is-7.2", Misbehaviour { exit_121: 2, ..Misbehaviour::default() });
    let script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 3).await;
    assert_eq!(bench.log().matches("Starting a new Carbon instance.").count(), 2);
    assert_eq!(bench.state().await.launches, 3);
    bench.terminate(bench.pid());
    assert_eq!(status_of(script).await, Some(0));
}

#[tokio::test]
async fn start_returns_at_once_says_nothing_and_refuses_a_second_one() {
    let bench = Bench::new("wso2is-7.2");
    let done = bench.run(&["start"]).await;
    assert_eq!((done.status.code(), done.output.as_str()), (Some(0), ""));
    bench.until_logged("WSO2 Carbon started in").await;
    let pid = bench.pid();
    let again = bench.run(&["start"]).await;
    assert_eq!((again.status.code(), again.output.as_str()), (Some(0), "Process is already running\n"));
    assert_eq!(bench.pid(), pid);
    bench.run(&["stop"]).await;
    bench.until_all_gone().await;
}

#[tokio::test]
async fn stop_does_not_wait_and_is_0_without_a_server() {
    let slow = Misbehaviour { stop_delay: Some(Span::secs(60)), ..Misbehaviour::default() };
    let bench = Bench::misbehaving("wso2is-7.2", slow);
    assert_eq!(bench.run(&["stop"]).await.status.code(), Some(0));
    let _script = bench.start_ready().await;
    assert_eq!(bench.run(&["stop"]).await.status.code(), Some(0));
    bench.until_logged("Waiting for request service completion...").await;
    assert_eq!(bench.alive().len(), 2);
}

#[tokio::test]
async fn a_stale_pid_file_misleads_start_and_kills_a_stranger_on_stop() {
    let bench = Bench::new("wso2is-7.2");
    let mut stranger =
        tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().expect("sleep");
    bench.write("wso2carbon.pid", &format!("{}\n", stranger.id().expect("alive")));
    assert_eq!(bench.run(&["start"]).await.output, "Process is already running\n");
    bench.run(&["stop"]).await;
    assert_eq!(stranger.wait().await.expect("an end").code(), None, "ended by the signal");
}

#[tokio::test]
async fn restart_gives_a_new_process_without_the_first_ones_arguments() {
    let bench = Bench::new("wso2is-7.2");
    let _script = bench.start(&[&format!("-DportOffset={}", bench.other_offset())]);
    bench.until_logged(&format!("HTTPS port       : {}", 9443 + bench.other_offset())).await;
    let first = bench.pid();
    let done = bench.run(&["restart"]).await;
    assert_eq!(done.status.code(), Some(0));
    bench.until_pid_differs(first).await;
    bench.until_logged(&format!("HTTPS port       : {}", bench.port(9443))).await;
}

#[tokio::test]
async fn without_a_usable_java_home_the_script_ends_with_1() {
    let bench = Bench::new("wso2is-7.2");
    let mut unset = bench.command(&[]);
    unset.env_remove("JAVA_HOME").env("JAVACMD", bench.pack.java_home.join("bin/java"));
    let done = finish(unset).await;
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(done.output, "You must set the JAVA_HOME variable before running CARBON.\n");
    let mut wrong = bench.command(&[]);
    wrong.env("JAVA_HOME", "/nonexistent");
    let done = finish(wrong).await;
    assert_eq!(done.status.code(), Some(1));
    assert!(done.output.starts_with("Error: JAVA_HOME is not defined correctly.\n CARBON cannot execute"));
}

#[tokio::test]
async fn an_inherited_carbon_home_makes_the_script_act_on_another_pack() {
    let (one, other) = (Bench::new("wso2is-7.1"), Bench::new("wso2is-7.2"));
    let mut command = one.command(&["version"]);
    command.env("CARBON_HOME", &other.pack.home);
    assert!(finish(command).await.output.contains("v7.2.0"));
}

#[tokio::test]
async fn only_identity_server_7_3_insists_on_its_jdk() {
    let strict = Bench::with("wso2is-7.3", |spec| spec.jdk_version = "17.0.12".to_owned());
    let done = strict.run(&[]).await;
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(done.output, " [ERROR] WSO2 Identity Server requires JDK 21 or higher.\n");

    let lax = Bench::with("wso2is-7.2", |spec| spec.jdk_version = "1.8.0_292".to_owned());
    let _script = lax.start_ready().await;
    assert!(lax.output().contains("between JDK 11 and JDK 21\n Starting WSO2 Carbon (in unsupported JDK)\n"));
    assert!(lax.log().contains("Java Version     : 1.8.0_292"));
}

#[tokio::test]
async fn debug_wants_a_port_and_ignores_java_opts() {
    let bench = Bench::new("wso2is-7.2");
    let done = bench.run(&["debug"]).await;
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(done.output, " Please specify the debug port after the --debug option\n");
    let mut command = bench.command(&["--debug", "5005"]);
    command.env("JAVA_OPTS", "-Dmine=1");
    let _script = bench.spawn(command);
    bench.until_logged("WSO2 Carbon started in").await;
    let line = fs::read_to_string(format!("/proc/{}/cmdline", bench.pid())).expect("a command line");
    assert!(line.contains("suspend=y,address=*:5005") && !line.contains("-Dmine=1"), "{line}");
}

#[tokio::test]
async fn java_opts_come_after_the_memory_options_and_tmp_is_wiped() {
    let bench = Bench::new("wso2is-7.2");
    bench.write("tmp/left-over", "");
    let mut command = bench.command(&[]);
    command.env("JVM_MEM_OPTS", "-Xmx2g").env("JAVA_OPTS", "-Xmx3g");
    let _script = bench.spawn(command);
    bench.until_logged("WSO2 Carbon started in").await;
    assert!(bench.output().contains("Using Java memory options: -Xmx2g\n"));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", bench.pid())).expect("a command line");
    assert!(line.find("-Xmx2g") < line.find("-Xmx3g"), "{line}");
    assert!(!bench.pack.home.join("tmp/left-over").exists());
}

#[tokio::test]
async fn a_word_that_ends_in_help_prints_the_usage() {
    let done = Bench::new("wso2is-7.2").run(&["--help"]).await;
    assert_eq!(done.status.code(), Some(0));
    assert!(done.output.contains("Usage: "), "{}", done.output);
}

#[tokio::test]
async fn term_before_the_shutdown_hook_is_abrupt() {
    let slow = Misbehaviour { pid_delay: Some(Span::secs(60)), ..Misbehaviour::default() };
    let bench = Bench::misbehaving("wso2is-7.2", slow);
    let script = bench.start(&[]);
    let is_java = |pid: &&u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(BOOTSTRAP))
            && catches_term(**pid)
    };
    bench.until("a java process", || bench.alive().iter().any(|pid| is_java(&pid))).await;
    let java = *bench.alive().iter().find(is_java).expect("just seen");
    bench.terminate(i32::try_from(java).expect("a pid"));
    assert_eq!(status_of(script).await, Some(0));
    assert_eq!(bench.log(), "");
    assert!(!bench.has_pid());
}

/// Whether the process has taken SIGTERM over; before that the signal would kill it, which a JVM never allows.
fn catches_term(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
    let bit = 1_u64 << (Signal::TERM.as_raw() - 1);
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & bit != 0)
}

#[tokio::test]
async fn a_group_signal_ends_script_and_java() {
    let bench = Bench::new("wso2am-4.5");
    let script = bench.start_ready().await;
    let group = rustix::process::Pid::from_raw(i32::try_from(script.id().expect("alive")).expect("a pid"));
    rustix::process::kill_process_group(group.expect("a pid"), Signal::TERM).expect("a group");
    status_of(script).await;
    bench.until_all_gone().await;
}

#[tokio::test]
async fn the_diagnostics_jvm_comes_and_goes_with_the_server() {
    let bench = Bench::new("wso2am-4.5");
    let script = bench.start_ready().await;
    bench.until("script, server and diagnostics", || bench.alive().len() == 3).await;
    bench.terminate(bench.pid());
    assert_eq!(status_of(script).await, Some(0));
    bench.until_all_gone().await;

    let older = Bench::new("wso2am-4.2");
    let _script = older.start_ready().await;
    assert_eq!(older.alive().len(), 2);
}

#[tokio::test]
async fn api_manager_4_7_writes_an_encryption_key_once() {
    let bench = Bench::new("wso2am-4.7");
    let script = bench.start_ready().await;
    let text = bench.read("repository/conf/deployment.toml");
    let key =
        text.split("[encryption]\nkey = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a key");
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(
        fs::metadata(bench.pack.deployment_toml()).expect("there").permissions().mode() & 0o777,
        0o600
    );
    assert!(bench.output().contains("[WARNING]: A random encryption key has been created and added"));
    bench.terminate(bench.pid());
    status_of(script).await;
    let _script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
    assert_eq!(bench.read("repository/conf/deployment.toml"), text);
}

#[tokio::test]
async fn optimize_replaces_deployment_toml_for_good() {
    let bench = Bench::new("wso2am-4.2");
    let before = bench.read("repository/conf/deployment.toml");
    let _script = bench.start(&["--optimize", "-Dprofile=gateway-worker"]);
    bench.until_logged("WSO2 Carbon started in").await;
    assert_eq!(bench.read("repository/conf/deployment.toml.backup"), before);
    assert!(bench.read("repository/conf/deployment.toml").contains("profile = \"gateway-worker\""));
}

#[test]
fn batch_files_have_the_traps_of_the_real_ones() {
    let bench = Bench::new("wso2am-4.5");
    let text = bench.read("bin/api-manager.bat");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert!(text.contains("-Xms256m -Xmx1024m") && !text.contains("JVM_MEM_OPTS"));
    assert!(text.contains("if \"%ERRORLEVEL%\"==\"121\" goto runJava"));
    assert!(!text.contains("\"stop\"") && !text.contains("\"start\""), "these words are not recognised");
    assert!(text.contains("cd %CARBON_HOME%\\tmp\r\ndel *.* /s /q"), "no check that tmp is there");
    assert!(Bench::new("wso2is-7.2").read("bin/wso2server.bat").contains("if exist \"%CARBON_HOME%\\tmp\""));
}
