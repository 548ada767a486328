//! `bin/standin-product.toml`: which product a pack is, for the stand-in that runs in it.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Path below the home.
pub const FILE: &str = "bin/standin-product.toml";

/// What the stand-in must know of the product whose place it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// As the `Server :` line says it, e.g. `WSO2 Identity Server`.
    pub name: String,
    pub version: String,
    pub kernel: String,
    pub role: Role,
    /// `Mgt Console URL` in the log: Identity Server up to 6.1 and every API Manager.
    pub console_line: bool,
    /// Level of the mapper's "changed" lines: WARN up to mapper 1.0.13, INFO later.
    pub mapper_warns: bool,
    pub ports: Vec<Port>,
}

/// What a server does in its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    IdentityServer,
    AllInOne,
    ControlPlane,
    Gateway,
    TrafficManager,
    /// Web applications only: key manager, publisher and developer portal of API Manager 3.
    WebApplications,
}

impl Role {
    /// Whether this is a pack of API Manager.
    pub fn is_apim(self) -> bool {
        self != Role::IdentityServer
    }

    /// Whether it has the Admin API.
    pub fn is_control_plane(self) -> bool {
        matches!(self, Role::AllInOne | Role::ControlPlane)
    }

    /// Whether API traffic passes through it.
    pub fn is_gateway(self) -> bool {
        matches!(self, Role::AllInOne | Role::Gateway)
    }
}

/// A port before the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    pub number: u16,
    pub kind: PortKind,
}

/// What listens on a port, which decides the protocol, the answers and what a conflict does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    ServletHttps,
    ServletHttp,
    PassthroughHttps,
    PassthroughHttp,
    WebSocketTls,
    WebSocket,
    WebhookTls,
    Webhook,
    /// AMQP: the one conflict that ends the server.
    Broker,
    /// Accepts connections and says nothing.
    Plain,
}

impl PortKind {
    /// Whether TLS is spoken.
    pub fn is_tls(self) -> bool {
        matches!(
            self,
            PortKind::ServletHttps
                | PortKind::PassthroughHttps
                | PortKind::WebSocketTls
                | PortKind::WebhookTls
        )
    }

    /// Whether requests are answered.
    pub fn is_http(self) -> bool {
        !matches!(self, PortKind::Broker | PortKind::Plain)
    }
}

impl Descriptor {
    /// The pack as `-Dprofile=` narrows it; an unknown profile changes nothing.
    pub fn for_profile(mut self, profile: &str) -> Descriptor {
        let third = self.version.starts_with("3.");
        self.role = match profile {
            "gateway-worker" => Role::Gateway,
            "traffic-manager" => Role::TrafficManager,
            "control-plane" => Role::ControlPlane,
            "api-publisher" | "api-devportal" | "api-key-manager" if third => Role::WebApplications,
            other if other.starts_with("api-") => Role::ControlPlane,
            _ => return self,
        };
        let role = self.role;
        self.ports.retain(|port| match port.kind {
            PortKind::ServletHttps | PortKind::ServletHttp => true,
            PortKind::Broker | PortKind::Plain => matches!(role, Role::ControlPlane | Role::TrafficManager),
            PortKind::PassthroughHttps
            | PortKind::PassthroughHttp
            | PortKind::WebSocketTls
            | PortKind::WebSocket
            | PortKind::WebhookTls
            | PortKind::Webhook => role.is_gateway(),
        });
        self
    }

    /// Reads the descriptor of the pack at `home`.
    pub fn read(home: &Path) -> io::Result<Descriptor> {
        let text = fs::read_to_string(home.join(FILE))?;
        toml::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
