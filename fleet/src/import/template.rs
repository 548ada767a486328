//! Files that are not a deployment.toml but what one is made of: templates of Ansible, Puppet, Helm and their like.

use std::fmt;

/// What makes a deployment.toml of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    Ansible,
    Puppet,
    Helm,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Template::Ansible => "a template of Ansible (Jinja)",
            Template::Puppet => "a template of Puppet (ERB)",
            Template::Helm => "a template of Helm or a Kubernetes manifest",
        })
    }
}

impl Template {
    /// How to get the file that it makes.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Template::Ansible | Template::Puppet => {
                "give the deployment.toml that it makes: the one on the host, repository/conf/deployment.toml"
            }
            Template::Helm => {
                "give the deployment.toml that it makes: the one in the pod, or in the output of `helm template`"
            }
        }
    }

    /// Judges a file by its name and by marks that no deployment.toml has. `is_toml` says whether it reads as one:
    /// then `{{` and `{%` may be what somebody really typed.
    pub(super) fn of(file: &str, text: &str, is_toml: bool) -> Option<Self> {
        Self::by_name(&file.to_ascii_lowercase()).or_else(|| Self::by_marks(text, is_toml))
    }

    fn by_name(name: &str) -> Option<Self> {
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".j2", ".jinja", ".jinja2"]) {
            Some(Template::Ansible)
        } else if ends(&[".erb", ".epp"]) {
            Some(Template::Puppet)
        } else if ends(&[".tpl", ".gotmpl"]) {
            Some(Template::Helm)
        } else {
            None
        }
    }

    fn by_marks(text: &str, is_toml: bool) -> Option<Self> {
        let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
        let is_manifest = !is_toml && has(&["kind: ConfigMap", "apiVersion:"]);
        if is_manifest || has(&["{{ .Values", "{{- ", "{{.Values", "{{ include ", "{{ .Release"]) {
            Some(Template::Helm)
        } else if has(&["<%= ", "<%- ", "<%=", "<% "]) {
            Some(Template::Puppet)
        } else if !is_toml && has(&["{%", "{{", "{#"]) {
            Some(Template::Ansible)
        } else {
            None
        }
    }
}
