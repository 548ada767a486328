//! The configuration step of a launch: from counting it to the generated files.

use std::io;

use sha2::{Digest, Sha256};

use super::config::{self, Config, ConfigError, Sources, hex};
use super::journal::Level;
use super::misbehaviour::{FirstStart, Misbehaviour};
use super::outputs::{self, Outcome};
use super::server::Server;
use super::state::State;

/// What the configuration step ended with.
pub enum Step {
    Accepted,
    /// Alive, but the start will not end.
    Hang,
    Exit(u8),
}

impl Server {
    /// The configuration step, from counting the launch to the generated files.
    pub(super) fn configure(&self, faults: &Misbehaviour) -> io::Result<Step> {
        let mut state = State::read(&self.home);
        let faults_text = toml::to_string(faults).map_err(io::Error::other)?;
        state.count_launch(hex(&Sha256::digest(faults_text.as_bytes())));
        self.shared.update(|running| {
            running.launches = state.launches;
            running.launches_with_faults = state.launches_with_faults;
        });
        state.write(&self.home)?;
        let environment = |name: &str| std::env::var(name).ok();
        let sources = Sources { environment: &environment, properties: &self.launch.properties };
        let config = match Config::read(&self.home, &sources) {
            Ok(config) => config,
            Err(error) => return Ok(self.refuse(&error)),
        };
        let Some(config) = config else {
            let path = self.home.join(config::FILE);
            self.journal.mapper(
                Level::Warn,
                "ConfigParser",
                &format!("deployment.toml not found at {}", path.display()),
            );
            self.take_up(None);
            return Ok(Step::Accepted);
        };
        if faults.start_fails_if_toml_contains.as_deref().is_some_and(|text| config.text.contains(text)) {
            self.journal.configuration_failed("Validation failed for a value that standin.toml forbids");
            return Ok(Step::Exit(1));
        }
        let first = state.read_digest != config.digest;
        state.read_digest.clone_from(&config.digest);
        let fault = faults.needs_two_starts.filter(|_| first);
        if fault != Some(FirstStart::Stale) || state.effective_digest.is_empty() {
            state.effective_digest.clone_from(&config.digest);
        }
        state.write(&self.home)?;
        if let Some(status) = self.generate(&config) {
            return Ok(Step::Exit(status));
        }
        self.take_up(Some((&config, &state.effective_digest)));
        Ok(match fault {
            Some(FirstStart::Exit) => Step::Exit(1),
            Some(FirstStart::Hang) => Step::Hang,
            Some(FirstStart::Stale) | None => Step::Accepted,
        })
    }

    fn refuse(&self, error: &ConfigError) -> Step {
        if let ConfigError::Syntax { message } = error {
            self.journal.mapper(Level::Error, "TomlParser", message);
        }
        self.journal.configuration_failed(&error.to_string());
        Step::Exit(1)
    }

    fn take_up(&self, config: Option<(&Config, &str)>) {
        self.shared.update(|running| {
            if let Some((config, effective_digest)) = config {
                running.toml.clone_from(&config.text);
                effective_digest.clone_into(&mut running.toml_digest);
                running.health_check_enabled = config.is_on("carbon_health_check.enable");
                let admin = |key: &str| config.text_of(key).unwrap_or_else(|| "admin".to_owned());
                running.admin = (admin("super_admin.username"), admin("super_admin.password"));
                running.offset = config.offset();
                running.needs_vault = config.has_secrets();
            }
            running.offset = self.launch.port_offset().unwrap_or(running.offset);
        });
    }

    /// Writes the generated files; `Some` is the status to exit with.
    fn generate(&self, config: &Config) -> Option<u8> {
        let on = |name: &str| self.launch.properties.get(name).is_some_and(|value| value == "true");
        if on("avoidConfigUpdate") || on("configParseOnly") {
            return None;
        }
        match outputs::generate(&self.home, config, on("forceConfigUpdate")) {
            Ok(outcome) => {
                self.tell_outcome(&outcome);
                None
            }
            Err(error) => {
                self.journal.configuration_failed(&error.to_string());
                Some(1)
            }
        }
    }

    fn tell_outcome(&self, outcome: &Outcome) {
        let level = if self.descriptor.mapper_warns { Level::Warn } else { Level::Info };
        let say = |level, text: &str| self.journal.mapper(level, "ConfigParser", text);
        match outcome {
            Outcome::Unchanged => {}
            Outcome::First => {
                say(Level::Info, "Initializing configurations with deployment configurations");
            }
            Outcome::Changed { outputs, templates, references } => {
                for path in templates {
                    say(Level::Warn, &format!("Configurations templates Changed in :{path}"));
                }
                if !templates.is_empty() {
                    say(Level::Info, "Applying Configurations upon new Templates");
                }
                for path in outputs {
                    say(level, &format!("Configurations Changed in :{path}"));
                }
                let home = self.home.display();
                if !outputs.is_empty() {
                    say(level, &format!("Overriding files in configuration directory {home}"));
                }
                if *references {
                    let text = "Configuration value changed in references, Overriding files in the configuration directory";
                    say(Level::Warn, &format!("{text}{home}"));
                }
            }
        }
    }
}
