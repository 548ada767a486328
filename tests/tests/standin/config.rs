//! The configuration step: what ends a start, with which words, and what is rewritten.

use convoy_tests::standin::Misbehaviour;

use crate::harness::{Bench, status_of};

const SEVERE: &str =
    "SEVERE {org.wso2.carbon.server.Main handleConfiguration} - Error while performing configuration changes";

/// Starts with a deployment.toml that ends the server, and expects this text on the console.
async fn refused(bench: &Bench, message: &str) {
    let script = bench.start(&[]);
    assert_eq!(status_of(script).await, Some(0), "the script's status says nothing");
    assert!(bench.output().contains(message), "{}", bench.output());
    assert!(bench.output().contains(SEVERE), "{}", bench.output());
    assert!(bench.read("repository/logs/patches.log").contains(SEVERE));
    assert!(bench.has_pid(), "the pid file is written before the configuration is read");
    assert!(!bench.log().contains("Starting WSO2 Carbon"));
}

#[tokio::test]
async fn a_syntax_error_ends_the_start_in_the_parsers_words() {
    let bench = Bench::new("wso2is-7.1");
    bench.append_toml("oops = ");
    let message = "ERROR {org.wso2.config.mapper.TomlParser} - Unexpected end of line, expected ', \", ''', \"\"\", a number, a boolean, a date/time, an array, or a table (line ";
    refused(&bench, message).await;
    assert!(bench.log().contains(message), "{}", bench.log());
}

#[tokio::test]
async fn a_table_defined_twice_ends_the_start() {
    let bench = Bench::new("wso2is-7.1");
    bench.append_toml("[server]\nhostname = \"again\"");
    refused(&bench, "server previously defined at line 2, column 1 (line ").await;
}

#[tokio::test]
async fn an_unset_variable_ends_the_start_and_a_set_one_is_recorded() {
    let bench = Bench::new("wso2is-7.1");
    bench.append_toml("[custom]\nvalue = \"$env{CONVOY_TEST_HOST}\"");
    refused(&bench, "ConfigParserException: Environment variable CONVOY_TEST_HOST not defined in system")
        .await;
    let mut command = bench.command(&[]);
    command.env("CONVOY_TEST_HOST", "is.example");
    let _script = bench.spawn(command);
    bench.until_logged("WSO2 Carbon started in").await;
    let references = bench.read("repository/resources/conf/.metadata/references.properties");
    assert!(references.contains("env\\:CONVOY_TEST_HOST=is.example"), "{references}");
}

#[tokio::test]
async fn a_missing_deployment_toml_is_a_warning() {
    let bench = Bench::new("wso2is-7.1");
    std::fs::remove_file(bench.pack.deployment_toml()).expect("removed");
    // Without the file the offset would be 0, and that is no port of this test's.
    let _script = bench.start(&[&format!("-DportOffset={}", bench.other_offset())]);
    bench.until_logged("WSO2 Carbon started in").await;
    assert!(
        bench.log().contains(" WARN {org.wso2.config.mapper.ConfigParser} - deployment.toml not found at ")
    );
}

#[tokio::test]
async fn the_first_start_generates_and_an_equal_one_leaves_all_alone() {
    let bench = Bench::new("wso2is-7.1");
    let script = bench.start_ready().await;
    assert!(bench.log().contains("Initializing configurations with deployment configurations"));
    let offset = format!("<Offset>{}</Offset>", bench.port(0));
    assert!(bench.read("repository/conf/carbon.xml").contains(&offset));
    let record = bench.read("repository/resources/conf/.metadata/metadata_config.properties");
    assert!(
        record.contains("repository/conf/carbon.xml=") && record.contains("repository/conf/deployment.toml=")
    );
    bench.terminate(bench.pid());
    status_of(script).await;
    let _script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
    assert_eq!(bench.read("repository/resources/conf/.metadata/metadata_config.properties"), record);
    assert!(!bench.log().contains("Configurations Changed in"));
    assert!(bench.read("backup/repository/conf/carbon.xml").contains(&offset));
}

#[tokio::test]
async fn a_hand_edit_of_a_generated_file_is_overwritten() {
    let bench = Bench::new("wso2is-6.0");
    let script = bench.start_ready().await;
    let generated = bench.read("repository/conf/carbon.xml");
    bench.terminate(bench.pid());
    status_of(script).await;
    bench.write("repository/conf/carbon.xml", "<Server/>");
    let _script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
    assert_eq!(bench.read("repository/conf/carbon.xml"), generated);
    assert_eq!(bench.read("backup/repository/conf/carbon.xml"), "<Server/>");
    let line =
        " WARN {org.wso2.config.mapper.ConfigParser} - Configurations Changed in :repository/conf/carbon.xml";
    assert!(bench.log().contains(line), "mapper 1.0.13 warns\n{}", bench.log());
}

#[tokio::test]
async fn a_deleted_generated_file_ends_the_start_until_the_record_goes_too() {
    let bench = Bench::new("wso2is-7.1");
    let script = bench.start_ready().await;
    bench.terminate(bench.pid());
    status_of(script).await;
    std::fs::remove_file(bench.pack.home.join("repository/conf/user-mgt.xml")).expect("removed");
    assert_eq!(status_of(bench.start(&[])).await, Some(0));
    assert!(bench.output().contains("ConfigParserException: Error while reading metadata"));
    std::fs::remove_dir_all(bench.pack.home.join("repository/resources/conf/.metadata")).expect("removed");
    let _script = bench.start(&[]);
    bench.until_logged_times("WSO2 Carbon started in", 2).await;
}

#[tokio::test]
async fn the_command_line_offset_beats_the_file() {
    let bench = Bench::new("wso2is-7.1");
    let _script = bench.start(&[&format!("-DportOffset={}", bench.other_offset())]);
    bench.until_logged("WSO2 Carbon started in").await;
    assert!(bench.get(bench.port(9763), "/standin/state").await.is_none());
    assert!(bench.get(9763 + bench.other_offset(), "/standin/state").await.is_some());
}

#[tokio::test]
async fn a_temporary_password_serves_one_launch_and_without_it_the_server_is_up_but_useless() {
    let bench = Bench::new("wso2is-7.1");
    bench.append_toml("[custom]\nvalue = \"$secret{db}\"\n[secrets]\ndb = \"Y2lwaGVydGV4dA==\"");
    bench.write("password-tmp", "wso2carbon");
    let script = bench.start_ready().await;
    assert!(!bench.pack.home.join("password-tmp").exists());
    bench.terminate(bench.pid());
    status_of(script).await;
    let _script = bench.start(&[]);
    bench.until_logged("Keystore was tampered with, or password was incorrect").await;
    assert_eq!(bench.alive().len(), 2, "alive");
    assert_eq!(bench.log().matches("WSO2 Carbon started in").count(), 1);
}

#[tokio::test]
async fn a_password_file_without_suffix_serves_two_launches() {
    let bench = Bench::new("wso2is-7.1");
    bench.append_toml("[custom]\nvalue = \"$secret{db}\"\n[secrets]\ndb = \"Y2lwaGVydGV4dA==\"");
    bench.write("password", "wso2carbon");
    for launch in 1..=2 {
        let script = bench.start(&[]);
        bench.until_logged_times("WSO2 Carbon started in", launch).await;
        bench.terminate(bench.pid());
        status_of(script).await;
    }
    assert!(!bench.pack.home.join("password").exists() && !bench.pack.home.join("password-tmp").exists());
}

#[tokio::test]
async fn a_fault_file_with_an_unknown_key_is_refused() {
    let bench = Bench::misbehaving("wso2is-7.1", Misbehaviour::default());
    bench.write("standin.toml", "never_redy = true\n");
    status_of(bench.start(&[])).await;
    assert!(bench.output().contains("unknown field `never_redy`"), "{}", bench.output());
    assert!(!bench.has_pid());
}
