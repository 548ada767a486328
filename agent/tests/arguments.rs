//! What `convoy-agent` says of its command line, before it looks at anything else.

use std::process::Command;

#[test]
fn a_token_on_the_command_line_is_refused_before_a_missing_configuration_is_told() {
    let agent = env!("CARGO_BIN_EXE_convoy-agent");
    let ran = Command::new(agent)
        .args(["--config", "/nowhere/agent.toml", "enroll", "--token", "a-secret"])
        .output();
    let ran = ran.expect("the agent was built for this test");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("every user of this host can read a command line"), "{said}");
    assert!(!said.contains("a-secret") && !said.contains("agent.toml"), "{said}");
}
