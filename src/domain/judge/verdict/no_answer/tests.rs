//! Tests the classification of messages: recorded from Twilio's proxy, from Twilio's error pages, and from Java,
//! Envoy, OpenSSL, glibc and other software.

use super::super::{Code, Reason};
use super::*;
use crate::domain::words::call_event::Body;

#[test]
fn classifies_twilios_own_messages() {
    for (cause, expected) in [
        // Recorded bodies of the proxy.
        (
            "Error reading response: Response does not contain content type",
            Reason::MissingContentType,
        ),
        (
            "Total timeout is triggered. Configured tt is 15000ms and we attempted 1 time(s)",
            Reason::Timeout,
        ),
        ("Handshake failure", Reason::Tls),
        (
            "Failed to connect to ip 192.0.2.6: connection timed out: /192.0.2.6:80",
            Reason::Connection,
        ),
        ("Failed to connect to ip 192.0.2.6: No route to host: /192.0.2.6:443", Reason::Connection),
        ("Blacklisted IP", Reason::Connection),
        // Its other limits, in similar words.
        ("Connect timeout is triggered. Configured ct is 5000ms", Reason::Connection),
        ("Read timeout is triggered. Configured rt is 15000ms", Reason::Timeout),
        // Titles of the error pages 112xx, and messages of the older voice stack.
        ("HTTP communication total time out triggered", Reason::Timeout),
        ("HTTP connection failure", Reason::Connection),
        ("HTTP Connection Failure - Read timed out", Reason::Timeout),
        ("HTTP protocol violation", Reason::NoResponse),
        ("HTTP bad host name", Reason::Dns),
        ("HTTP too many redirects", Reason::Redirects),
        ("SSL/TLS Handshake Error", Reason::Tls),
        ("Certificate Invalid - Domain Mismatch", Reason::Tls),
        ("Certificate Invalid - Certificate Expired", Reason::Tls),
        ("Certificate Invalid - Could not find path to certificate", Reason::Tls),
    ] {
        check(cause, expected);
    }
}

#[test]
fn classifies_messages_of_other_software() {
    use Reason::{Connection, Dns, MissingContentType, NoResponse, Redirects, Timeout, Tls};
    for (cause, expected) in [
        // Java and Netty, where the exception names the cause.
        ("java.net.UnknownHostException: ivr.example.com", Dns),
        ("java.net.UnknownHostException: ivr.example.com: Name or service not known", Dns),
        ("java.nio.channels.UnresolvedAddressException", Dns),
        ("Failed to resolve 'ivr.example.com' after 4 queries", Dns),
        ("java.net.ConnectException: Connection refused (Connection refused)", Connection),
        ("java.net.ConnectException: Operation timed out", Connection),
        ("java.net.NoRouteToHostException: No route to host", Connection),
        ("java.net.SocketException: Connection reset", Connection),
        ("java.net.SocketException: Broken pipe", Connection),
        ("java.nio.channels.ClosedChannelException", Connection),
        ("java.net.SocketTimeoutException: connect timed out", Connection),
        ("java.net.SocketTimeoutException: Read timed out", Timeout),
        ("java.net.http.HttpConnectTimeoutException: HTTP connect timed out", Connection),
        ("java.net.http.HttpTimeoutException: request timed out", Timeout),
        ("io.netty.handler.timeout.ReadTimeoutException", Timeout),
        (
            "io.netty.channel.ConnectTimeoutException: connection timed out: ivr.example.com/192.0.2.6:443",
            Connection,
        ),
        (
            "io.netty.channel.AbstractChannel$AnnotatedConnectException: finishConnect(..) failed: Connection refused: /192.0.2.6:443",
            Connection,
        ),
        (
            "io.netty.handler.ssl.SslHandshakeTimeoutException: handshake timed out after 10000ms",
            Tls,
        ),
        ("javax.net.ssl.SSLHandshakeException: Received fatal alert: handshake_failure", Tls),
        ("Received fatal alert: protocol_version", Tls),
        (
            "PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
            Tls,
        ),
        ("PKIX path validation failed", Tls),
        ("unable to find valid certification path to requested target", Tls),
        ("No subject alternative DNS name matching ivr.example.com found", Tls),
        (
            "java.security.cert.CertificateExpiredException: NotAfter: Mon Nov 02 10:00:00 UTC 2026",
            Tls,
        ),
        ("Hostname ivr.example.com not verified", Tls),
        ("Remote host terminated the handshake", Tls),
        (
            "Connect to ivr.example.com:443 [ivr.example.com/192.0.2.6] failed: Connection timed out",
            Connection,
        ),
        (
            "org.apache.http.NoHttpResponseException: ivr.example.com:443 failed to respond",
            Connection,
        ),
        (
            "org.apache.http.client.CircularRedirectException: Circular redirect to 'https://ivr.example.com/'",
            Redirects,
        ),
        ("unexpected end of stream on https://ivr.example.com/...", Connection),
        (
            "reactor.netty.http.client.PrematureCloseException: Connection prematurely closed BEFORE response",
            Connection,
        ),
        (
            "Premature end of Content-Length delimited message body (expected: 9; received: 3)",
            Connection,
        ),
        // Envoy.
        (
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
            Connection,
        ),
        (
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
            Connection,
        ),
        (
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end",
            Tls,
        ),
        (
            "remote connection failure, transport failure reason: delayed connect error: 111",
            Connection,
        ),
        ("no healthy upstream", Connection),
        ("upstream request timeout", Timeout),
        ("stream timeout", Timeout),
        ("upstream max stream duration reached", Timeout),
        ("dns resolution failure", Dns),
        // C libraries, Go, Node.
        ("Temporary failure in name resolution", Dns),
        ("nodename nor servname provided, or not known", Dns),
        ("getaddrinfo ENOTFOUND ivr.example.com", Dns),
        ("dial tcp: lookup ivr.example.com: no such host", Dns),
        ("DNS lookup failed: NXDOMAIN", Dns),
        ("No address found for host name", Dns),
        ("dial tcp 192.0.2.6:443: i/o timeout", Timeout),
        ("connect ECONNREFUSED 192.0.2.6:443", Connection),
        ("connect: connection refused", Connection),
        ("Network is unreachable", Connection),
        ("Host is unreachable", Connection),
        ("socket hang up", Connection),
        ("read: connection reset by peer", Connection),
        ("unexpected EOF", Connection),
        ("x509: certificate signed by unknown authority", Tls),
        ("X.509 validation failed", Tls),
        ("self-signed certificate in certificate chain", Tls),
        ("error:0A00010B:SSL routines::wrong version number", Tls),
        ("TLSv1.1 is not supported by the server", Tls),
        ("sslv3 alert handshake failure", Tls),
        ("stopped after 10 redirects", Redirects),
        ("Maximum redirect count exceeded", Redirects),
        ("Redirect loop detected", Redirects),
        ("context deadline exceeded", Timeout),
        ("Time-out waiting for an answer", Timeout),
        ("missing Content-Type header", MissingContentType),
        ("IP address is not allowed", Connection),
        // Unknown causes.
        ("", NoResponse),
        ("Something else", NoResponse),
        ("Invalid header name", NoResponse),
        ("Invalid content type text/x-script", NoResponse),
        ("Redirect to ftp is unsupported", NoResponse),
    ] {
        check(cause, expected);
    }
}

#[test]
fn hosts_addresses_and_paths_are_ignored() {
    for (place, expected) in [
        ("crossland.example", Reason::Connection),
        ("ssl.example.com", Reason::Connection),
        ("tls-gateway.dns.example.com:8443", Reason::Connection),
        ("https://ssl.example.com/dns/certificate", Reason::Connection),
        ("dns-timeout-certificate", Reason::Connection),
        ("'tls.example.com'", Reason::Connection),
        ("(dns.example.com)", Reason::Connection),
        ("host=ssl.example.com", Reason::Connection),
        ("handshake.example.com/192.0.2.6:443", Reason::Connection),
        ("user@certificate.example", Reason::Connection),
        ("/tls/redirects/voice", Reason::Connection),
        ("[2001:db8::cafe]:443", Reason::Connection),
        ("2001:db8::dead:beef", Reason::Connection),
    ] {
        check(&format!("Failed to connect to {place}"), expected);
        check(&format!("{place}: Connection refused"), expected);
        check(&format!("{place} answered something odd"), Reason::NoResponse);
        check(&format!("Total timeout is triggered for {place}."), Reason::Timeout);
    }
}

#[test]
fn only_the_error_line_of_the_proxys_response_is_classified() {
    let text =
        |text: String| reason(Code::from_status(502).expect("valid code"), &Body::Text(text));
    let whole = |error: &str| {
        text(format!(
            "Twilio was unable to fetch content from: https://tls.example.com/dns\r\n{error}\r\nAccount SID: AC\r\nSSL Version: TLSv1.2\r\nURL Fragment: true\r\n"
        ))
    };
    assert_eq!(whole("Error: Connection refused"), Some(Reason::Connection));
    assert_eq!(whole("error: Connection refused"), Some(Reason::Connection));
    assert_eq!(whole("Error: "), Some(Reason::NoResponse));
    assert_eq!(whole("Remote Host: dns timed out"), Some(Reason::NoResponse));
    assert_eq!(text(format!(" {MARKER}")), Some(Reason::NoResponse));
    assert_eq!(text(format!("<p>{MARKER}\nError: timed out")), None);
    assert_eq!(text("Error: timed out".to_owned()), None);
    let error = format!("{MARKER}: x\nError: timed out");
    assert_eq!(reason(Code::from_status(503).expect("valid code"), &Body::Text(error)), None);
    assert_eq!(reason(Code::from_status(502).expect("valid code"), &Body::Absent), None);
    // Only the start of a long line is examined, cut at a character boundary.
    let long = format!("Error: {}Connection refused", "ü".repeat(MAX_CAUSE));
    assert_eq!(whole(&long), Some(Reason::NoResponse));
}

fn check(cause: &str, expected: Reason) {
    for cause in [cause.to_owned(), format!("{cause}."), format!("  {cause}")] {
        assert_eq!(classify_cause(&cause), expected, "{cause}");
    }
}
