//! Checks by HTTP and HTTPS to `HTTP_GET` and `SSL_GET`.

use quorate_model::spec::{
    BodyDigest, CheckKind, ClusterSpec, HttpCheck, HttpMethod, HttpRequest, HttpVersion, Tls,
};

use super::Exporting;
use super::page::Page;
use super::words::word;

/// The files that Keepalived's one `SSL` block names: authorities, certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    ca: Option<String>,
    identity: Option<(String, String)>,
}

impl Files {
    fn of(tls: &Tls) -> Option<Self> {
        let Tls { ca, identity, .. } = tls;
        let any = ca.is_some() || identity.is_some();
        any.then(|| Self { ca: ca.clone(), identity: identity.clone() })
    }
}

/// Writes the block of the files that the first check names which names any.
pub(super) fn define_files(spec: &ClusterSpec, page: &mut Page) -> Option<Files> {
    let services = spec.services.values();
    let mut checks = services
        .flat_map(|service| service.checks.iter().chain(service.own_checks.values().flatten()));
    let files = checks.find_map(|check| match &check.kind {
        CheckKind::Http(HttpCheck { tls: Some(tls), .. }) => Files::of(tls),
        _ => None,
    })?;
    page.line("");
    page.open("SSL");
    if let Some(ca) = &files.ca {
        page.set("ca", word(ca));
    }
    if let Some((certificate, key)) = &files.identity {
        page.set("certificate", word(certificate));
        page.set("key", word(key));
    }
    page.close();
    Some(files)
}

/// What only these have.
pub(super) fn write(whose: &str, http: &HttpCheck, with: &Exporting<'_>, page: &mut Page) {
    page.set(
        "http_protocol",
        match http.version {
            HttpVersion::Http10 => "1.0",
            HttpVersion::Http11 => "1.1",
        },
    );
    if http.requests.len() > 1 {
        // All of them at each probe, and not one of them at each.
        page.line("fast_recovery");
    }
    if let Some(tls) = &http.tls {
        self::tls(whose, tls, http, with, page);
    }
    for request in &http.requests {
        match (&request.body, &request.body_absent) {
            // A url has one pattern.
            (Some(_), Some(_)) => {
                url(whose, request, true, page);
                url(whose, request, false, page);
            }
            (_, absent) => url(whose, request, absent.is_none(), page),
        }
    }
}

fn tls(whose: &str, tls: &Tls, http: &HttpCheck, with: &Exporting<'_>, page: &mut Page) {
    page.line("enable_sni");
    let hosts = || http.requests.iter().map(|request| request.host.as_deref());
    if let Some(sni) = &tls.sni
        && hosts().any(|host| host != Some(sni.as_str()))
    {
        page.lost(whose, &format!("sni {sni}: it is the virtualhost of each url"));
    }
    if tls.verify {
        page.lost(whose, "verify: Keepalived takes any certificate");
    }
    if Files::of(tls) != with.ssl {
        page.lost(
            whose,
            "its own certificates and authorities: Keepalived has one SSL block for all",
        );
    }
}

fn url(whose: &str, request: &HttpRequest, present: bool, page: &mut Page) {
    let HttpRequest { method, path, host, status, digest, body, body_absent } = request;
    page.open("url");
    if *method != HttpMethod::Get {
        page.lost(whose, &format!("{}: it asks by GET", method.word()));
    }
    page.set("path", word(path));
    if let Some(host) = host {
        page.set("virtualhost", word(host));
    }
    page.set("status_code", status.to_string().replace(',', " "));
    match digest {
        Some(BodyDigest::Md5(bytes)) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            page.set("digest", hex);
        }
        Some(digest @ BodyDigest::Sha256(_)) => {
            page.lost(whose, &format!("{digest}: it knows MD5 alone"))
        }
        None => {}
    }
    let pattern = if present { body } else { body_absent };
    if let Some(pattern) = pattern {
        page.set("regex", word(pattern.as_str()));
        if !present {
            page.line("regex_no_match");
        }
    }
    page.close();
}
