//! HAProxy's language.

use std::fmt::Write as _;

use super::{Balancer, Service, Stickiness, address, head};

/// For a server that does not take connections.
const CONNECT: &str = "5s";
/// Of a WebSocket that is silent.
const TUNNEL: &str = "1h";

pub(super) fn text(balancer: &Balancer, fleet: &str, home: Option<&str>) -> String {
    let mut out = head(balancer, (fleet, home), "haproxy -c -f FILE");
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a text cannot fail.
        let _infallible = writeln!(out, "{text}");
    };
    line(format_args!("global"));
    line(format_args!("    log stdout format raw local0"));
    if let Some(socket) = &balancer.socket {
        line(format_args!("    stats socket {socket} mode 660 level admin"));
        // What hooks have set is forgotten at a reload unless the agent has saved it here.
        if let Some(home) = home {
            line(format_args!("    server-state-file {home}/convoy.state"));
        }
    }
    line(format_args!("    ssl-default-bind-options ssl-min-ver TLSv1.2"));
    line(format_args!("\ndefaults"));
    line(format_args!("    mode http"));
    line(format_args!("    log global"));
    line(format_args!("    option httplog"));
    line(format_args!("    option dontlognull"));
    line(format_args!("    timeout connect {CONNECT}"));
    line(format_args!("    timeout client 5m"));
    line(format_args!("    timeout server 5m"));
    line(format_args!("    timeout http-request 30s"));
    // A name that is gone keeps its server out, and not the balancer from its start.
    if balancer.socket.is_some() && home.is_some() {
        line(format_args!("    load-server-state-from-file global"));
    }
    line(format_args!("    default-server init-addr last,libc,none"));
    for (port, services) in balancer.ports() {
        frontend(balancer, (port, &services), &mut line);
    }
    for (_, services) in balancer.ports() {
        for service in services {
            backend(balancer, service, &mut line);
        }
    }
    out
}

fn frontend(
    balancer: &Balancer,
    (port, services): (u16, &[&Service]),
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let is_tls = services.iter().any(|service| service.transport.is_tls());
    line(format_args!("\nfrontend port-{port}"));
    let listen = balancer.listens(":", port);
    match balancer.certificate.as_ref().filter(|_| is_tls) {
        Some(certificate) => line(format_args!("    bind {listen} ssl crt {certificate} alpn http/1.1")),
        None => line(format_args!("    bind {listen}")),
    }
    // What clients say of themselves is not believed.
    line(format_args!("    http-request set-header X-Forwarded-For %[src]"));
    line(format_args!("    http-request set-header X-Forwarded-Host %[req.hdr(host)]"));
    line(format_args!("    http-request set-header X-Forwarded-Server %[hostname]"));
    line(format_args!("    http-request set-header X-Forwarded-Port {port}"));
    line(format_args!(
        "    http-request set-header X-Forwarded-Proto {}",
        if is_tls { "https" } else { "http" }
    ));
    for service in services {
        if service.hosts.is_empty() {
            line(format_args!("    default_backend {}", service.name));
        } else {
            line(format_args!(
                "    use_backend {} if {{ req.hdr(host),field(1,:),lower -m str {} }}",
                service.name,
                service.hosts.join(" ")
            ));
        }
    }
    if services.iter().all(|service| !service.hosts.is_empty()) {
        // Misdirected: nobody here has that name.
        line(format_args!("    default_backend nobody-{port}"));
        line(format_args!("\nbackend nobody-{port}"));
        line(format_args!("    http-request deny deny_status 421"));
    }
}

fn backend(balancer: &Balancer, service: &Service, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!("\nbackend {}", service.name));
    line(format_args!(
        "    balance {}",
        if service.sticky == Stickiness::Address { "source" } else { "leastconn" }
    ));
    line(format_args!("    timeout server {}s", service.timeout.as_secs().max(1)));
    if service.transport.is_long() {
        line(format_args!("    timeout tunnel {TUNNEL}"));
    }
    // Another server is tried only if nothing of the request was sent.
    line(format_args!("    option redispatch"));
    line(format_args!("    retry-on conn-failure"));
    if service.sticky == Stickiness::Cookie {
        let secure = if service.transport.is_tls() { " secure" } else { "" };
        line(format_args!("    cookie CONVOY-SERVER insert indirect nocache httponly{secure}"));
    }
    let health = service.members.iter().find_map(|member| member.health.as_ref());
    if let Some(health) = health {
        line(format_args!("    option httpchk GET {}", health.path));
        line(format_args!("    http-check expect status {}", health.status));
    }
    let name = service.hosts.first();
    if service.transport.is_tls() && balancer.server_ca.is_none() {
        line(format_args!("    # Nobody vouches for the servers' certificates: server_ca is not set."));
    }
    for member in &service.members {
        let mut server = format!("    server {} {}", member.name, address(&member.host, member.port));
        if service.transport.is_tls() {
            server += &tls(balancer, name);
        }
        if service.sticky == Stickiness::Cookie {
            server += &format!(" cookie {}", member.name);
        }
        server += " check inter 2s fall 3 rise 2";
        if let Some(health) = &member.health {
            let is_elsewhere = health.port != member.port;
            if is_elsewhere {
                server += &format!(" port {}", health.port);
            }
            server += match (health.tls, service.transport.is_tls()) {
                (true, false) if balancer.server_ca.is_some() => " check-ssl",
                (true, false) => " check-ssl verify none",
                (false, true) => " no-check-ssl",
                // A check follows `ssl` of its server only where it has no port of its own.
                (true, true) if is_elsewhere => " check-ssl",
                (true, true) | (false, false) => "",
            };
            if health.tls
                && !service.transport.is_tls()
                && let Some(ca) = &balancer.server_ca
            {
                server += &format!(" verify required ca-file {ca}");
            }
        }
        line(format_args!("{server}"));
    }
}

fn tls(balancer: &Balancer, name: Option<&String>) -> String {
    let mut words = match &balancer.server_ca {
        Some(ca) => format!(" ssl verify required ca-file {ca}"),
        None => " ssl verify none".to_owned(),
    };
    if let Some(name) = name {
        words += &format!(" sni str({name}) check-sni {name}");
        if balancer.server_ca.is_some() {
            words += &format!(" verifyhost {name}");
        }
    }
    words
}
