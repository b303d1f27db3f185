//! What checkers have.

use super::{Keyword, c, d, s};

pub(super) const CHECKERS: &[Keyword] = &[
    c("TCP_CHECK", "a check of type tcp"),
    c("HTTP_GET", "a check of type http"),
    c("SSL_GET", "a check of type https"),
    c("SMTP_CHECK", "a check of type smtp"),
    c("DNS_CHECK", "a check of type dns"),
    c("UDP_CHECK", "a check of type udp"),
    c("PING_CHECK", "a check of type ping"),
    c("MISC_CHECK", "a check of type exec"),
    c("FILE_CHECK", "a check of type file"),
    c(
        "BFD_CHECK",
        "nothing: Quorate has no BFD; a check of type ping or tcp with a short `interval` comes near it",
    ),
];

pub(super) const COMMON: &[Keyword] = &[
    c("delay_loop", "`interval`"),
    c("retry", "`retry`"),
    s("nb_get_retry", "retry"),
    s("nb_sock_retry", "retry"),
    c("delay_before_retry", "`retry_delay`"),
    c("warmup", "`warmup`"),
    c("alpha", "`start = \"down\"`"),
    d("log_all_failures", "`quorate status` shows why a real server is down"),
];

pub(super) const CONNECT: &[Keyword] = &[
    c("connect_ip", "`address`"),
    c("connect_port", "`port`"),
    c("bindto", "`source`"),
    c("bind_port", "`source_port`"),
    c("bind_if", "`interface`"),
    c("fwmark", "`mark`"),
    c("connect_timeout", "`timeout`"),
];

pub(super) const HTTP: &[Keyword] = &[
    c("url", "`path` and the like, or one of `urls`"),
    c("virtualhost", "`host` of urls that say none"),
    c("http_protocol", "`version`"),
    c("sni_name", "`sni`"),
    d("enable_sni", "the name in `host` is told"),
    d("fast_recovery", "all urls are asked in one probe"),
    d("tls_compliant", "an answer without a length has to end with TLS's close"),
];

pub(super) const URL: &[Keyword] = &[
    c("path", "`path`"),
    c("digest", "`md5`"),
    c("status_code", "`status`"),
    c("virtualhost", "`host`"),
    c("regex", "`body`"),
    c("regex_no_match", "`body_absent`"),
    c("regex_options", "options at the beginning of the pattern"),
    d("regex_min_offset", "write `(?s)^.{100,}` before the pattern"),
    d("regex_max_offset", "write `(?s)^.{0,100}` before the pattern"),
    d("regex_stack", "the engine needs none"),
    d("tls_compliant", "an answer without a length has to end with TLS's close"),
];

pub(super) const SMTP: &[Keyword] = &[
    c("helo_name", "`helo`"),
    c("host", "`address`, `port` and the like of a check of its own for each"),
];

pub(super) const DNS: &[Keyword] = &[c("type", "`record`"), c("name", "`name`")];

pub(super) const UDP: &[Keyword] = &[
    c("payload", "`payload`"),
    c("require_reply", "`reply`"),
    c("min_reply_length", "`reply_min`"),
    c("max_reply_length", "`reply_max`"),
];

pub(super) const MISC: &[Keyword] = &[
    c("misc_path", "`command`"),
    c("misc_timeout", "`timeout`"),
    c("misc_dynamic", "`dynamic = true`"),
    c("user", "`user`"),
];

pub(super) const FILE: &[Keyword] = &[
    c("track_file", "`path`: the file of the track_file of that name"),
    s("file", "track_file"),
    c("dynamic", "`dynamic = true`"),
    d("weight", "who writes the file writes the weight itself"),
];

pub(super) const BFD: &[Keyword] = &[d("name", "Quorate has no BFD")];
