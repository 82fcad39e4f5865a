//! Judging Call Events: hostile input takes linear time, and verdicts on XML match those of expat.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use twilio_call_exporter::domain::judge::observe::observe;
use twilio_call_exporter::domain::judge::route::{RoutePattern, Routes};
use twilio_call_exporter::domain::judge::twiml::{self, Document};
use twilio_call_exporter::domain::words::call_event::{Body, CallEvent, Request, Response};
use twilio_call_exporter::domain::words::parameters::Parameters;

/// Generates an input of about the given number of bytes.
type Generate<T> = fn(usize) -> T;

/// Valid and invalid fragments from which `document` builds documents.
const FRAGMENTS: [&str; 60] = [
    "<Response>",
    "</Response>",
    "<Response/>",
    "<Say>",
    "</Say>",
    "<Say/>",
    "<a:b>",
    "</a:b>",
    "<",
    ">",
    "/",
    "&",
    "&amp;",
    "&lt;",
    "&#65;",
    "&#x41;",
    "&#0;",
    "&x;",
    ";",
    "\"",
    "'",
    "=",
    " ",
    "\t",
    "\n",
    "a",
    "A1",
    "x=\"1\"",
    "y='2'",
    " x=\"1\"",
    " z=\"&amp;\"",
    "<!--",
    "-->",
    "--",
    "-",
    "<![CDATA[",
    "]]>",
    "]]",
    "]",
    "<?",
    "?>",
    "<?pi x?>",
    "<?xml version=\"1.0\"?>",
    "<?xml",
    " version=\"1.0\"",
    " encoding=\"UTF-8\"",
    " standalone=\"yes\"",
    "<!",
    "é",
    "\u{d7}",
    "\u{37e}",
    ".",
    "1",
    ":",
    "\u{1}",
    "日",
    "</",
    "/>",
    "&#xd800;",
    "&#x10ffff;",
];

/// Documents that `document` damages.
const DOCUMENTS: [&str; 3] = [
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Say voice=\"a\">x &amp; y</Say><Gather a=\"1\" b='2'><Play>u</Play></Gather><!-- c --><![CDATA[z]]><?pi d?></Response>",
    "<Response><Dial action=\"/a?b=1&amp;c=2\" timeout=\"5\"/></Response>",
    "<?xml version=\"1.0\"?><Response/>",
];

#[test]
#[ignore = "needs python3"]
fn xml_verdicts_match_expat() {
    let mut random = Rng::with_seed(20_260_101);
    let documents: Vec<String> = (0..50_000).map(|_| document(&mut random)).collect();
    let verdicts = expat(&documents);
    assert_eq!(verdicts.len(), documents.len());
    let mut accepted = 0;
    for (text, is_well_formed) in documents.iter().zip(verdicts) {
        if text.starts_with("<?xml version=") && !text.starts_with("<?xml version=\"1.0\"") {
            // Expat accepts any version.
            continue;
        }
        let document = twiml::read(text);
        assert_eq!(
            !matches!(document, Document::Malformed(_)),
            is_well_formed,
            "{text:?}: {document:?}"
        );
        accepted += usize::from(is_well_formed);
    }
    assert!(accepted > 5_000, "only {accepted} documents are well-formed");
}

#[test]
fn parsing_twiml_takes_linear_time() {
    let shapes: [(&str, Generate<String>); 22] = [
        ("text", |n| format!("<Response>{}</Response>", "x".repeat(n))),
        ("open elements", |n| "<Response>".repeat(n / 10)),
        ("empty elements", |n| format!("<Response>{}</Response>", "<Say/>".repeat(n / 6))),
        ("nested and closed", |n| {
            format!("<Response>{}</Response>", "<a><b></b></a>".repeat(n / 14))
        }),
        ("attributes", |n| {
            let mut text = String::from("<Response");
            for number in 0..n / 10 {
                let _infallible = write!(text, " a{number}=\"\"");
            }
            text + "/>"
        }),
        ("long attribute", |n| format!("<Response a=\"{}\"/>", "x".repeat(n))),
        ("attribute without end", |n| format!("<Response a=\"{}", "x".repeat(n))),
        ("long name", |n| format!("<{}/>", "a".repeat(n))),
        ("unicode name", |n| format!("<{}/>", "é".repeat(n / 2))),
        ("references", |n| format!("<Response>{}</Response>", "&amp;".repeat(n / 5))),
        ("ampersands", |n| format!("<Response>{}</Response>", "&".repeat(n))),
        ("references in a value", |n| format!("<Response a=\"{}\"/>", "&lt;".repeat(n / 4))),
        ("digits of a reference", |n| format!("<Response>&#{};</Response>", "0".repeat(n))),
        ("dashes", |n| format!("<Response><!-- {} --></Response>", "- ".repeat(n / 2))),
        ("comment without end", |n| format!("<Response><!--{}", "- ".repeat(n / 2))),
        ("comments", |n| format!("<Response>{}</Response>", "<!---->".repeat(n / 7))),
        ("brackets", |n| format!("<Response>{}</Response>", "]".repeat(n))),
        ("section without end", |n| format!("<Response><![CDATA[{}", "]]".repeat(n / 2))),
        ("instructions", |n| format!("<Response>{}</Response>", "<?a?>".repeat(n / 5))),
        ("spaces", |n| " ".repeat(n)),
        ("spaces in a tag", |n| format!("<Response{}/>", " ".repeat(n))),
        ("half characters", |n| "\u{fffd}".repeat(n / 3)),
    ];
    for (name, shape) in shapes {
        assert_linear(name, |size| {
            let text = shape(size);
            move || {
                black_box(twiml::read(black_box(&text)));
            }
        });
    }
}

#[test]
fn judging_events_with_an_extreme_field_takes_linear_time() {
    let fields: [(&str, Generate<CallEvent>); 14] = [
        ("slashes", |n| event(&format!("https://a.example{}", "/".repeat(n)), "", "", "")),
        ("digits", |n| event(&format!("https://a.example/{}", "1".repeat(n)), "", "", "")),
        ("segments", |n| event(&format!("https://a.example{}", "/a1B".repeat(n / 4)), "", "", "")),
        ("percent", |n| event(&format!("https://a.example/{}", "%4".repeat(n / 2)), "", "", "")),
        ("phone", |n| event(&format!("https://a.example/{}", "%2B1".repeat(n / 4)), "", "", "")),
        ("at", |n| event(&format!("https://{}a.example/", "@".repeat(n)), "", "", "")),
        ("colons", |n| event(&format!("https://{}a.example/", ":".repeat(n)), "", "", "")),
        ("host", |n| event(&format!("https://{}/", "A.".repeat(n / 2)), "", "", "")),
        ("path parameters", |n| {
            event(&format!("https://a.example/{}", ";a/".repeat(n / 3)), "", "", "")
        }),
        ("query", |n| event(&format!("https://a.example/?{}", "?#".repeat(n / 2)), "", "", "")),
        ("scheme", |n| event(&format!("{}://a.example/", "a".repeat(n)), "", "", "")),
        ("content type", |n| event("https://a.example/", &"text/xml,".repeat(n / 9), "", "")),
        ("status", |n| event("https://a.example/", "text/xml", &"x".repeat(n), "")),
        ("proxy error", |n| {
            let body = format!("Twilio was unable to fetch content from\nError:{}", "e".repeat(n));
            event("https://a.example/", "text/html", "", &body)
        }),
    ];
    let patterns = ["/:a/:b/c", "*.a.example/:x", "/:a/a1B/:b"];
    let routes = patterns.map(|text| RoutePattern::parse(text).expect("a pattern"));
    let routes = Routes::new(routes.to_vec());
    for (name, field) in fields {
        assert_linear(name, |size| {
            let (event, routes) = (field(size), routes.clone());
            move || {
                drop(black_box(observe(black_box(&event), &routes)));
            }
        });
    }
}

/// Runs a task on megabytes of input, which takes linear code a fraction of a second, and quadratic code minutes even
/// at ten bytes per nanosecond.
fn assert_linear<J: FnMut()>(name: &str, task: impl Fn(usize) -> J) {
    const SIZE: usize = 4 << 20;
    const LIMIT: Duration = Duration::from_secs(10);
    let mut task = task(SIZE);
    let began = Instant::now();
    task();
    assert!(began.elapsed() < LIMIT, "{name}: takes {:?}", began.elapsed());
}

fn event(url: &str, content_type: &str, status: &str, body: &str) -> CallEvent {
    let pairs = [("call_sid", ""), ("call_status", status)];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    CallEvent {
        request: Request {
            method: "POST".to_owned(),
            url: url.to_owned(),
            parameters: Parameters::collect(pairs, |value| Some(value.to_owned())),
        },
        response: Some(Response {
            code: Some(if body.is_empty() { 200 } else { 502 }),
            duration_ms: Some(1),
            content_type: Some(content_type.to_owned()),
            body: Body::Text(body.to_owned()),
            created_at: None,
        }),
    }
}

/// Generates a document: a damaged one or a sequence of fragments.
fn document(random: &mut Rng) -> String {
    let fragments = |random: &mut Rng, most| {
        (0..random.usize(0..=most)).map(|_| pick(random, &FRAGMENTS)).collect::<String>()
    };
    match random.u8(..10) {
        0..3 => format!("<Response>{}</Response>", fragments(random, 6)),
        3..5 => fragments(random, 8),
        _ => {
            let mut chars: Vec<char> = pick(random, &DOCUMENTS).chars().collect();
            let at = random.usize(..chars.len());
            match random.u8(..3) {
                0 => drop(chars.splice(at..at, fragments(random, 2).chars())),
                1 => drop(chars.drain(at..(at + 3).min(chars.len()))),
                _ => chars.truncate(at),
            }
            chars.into_iter().collect()
        }
    }
}

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

/// Returns which documents are well-formed according to expat, an independent XML 1.0 parser, run by Python.
fn expat(documents: &[String]) -> Vec<bool> {
    const SCRIPT: &str = "
import sys, xml.parsers.expat
for line in sys.stdin:
    try:
        xml.parsers.expat.ParserCreate('utf-8').Parse(bytes.fromhex(line), True)
        print(1)
    except xml.parsers.expat.ExpatError:
        print(0)
";
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = python.stdin.take().expect("a pipe");
    let lines: String = documents
        .iter()
        .map(|text| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = python.wait_with_output().expect("the output");
    writer.join().expect("the thread succeeds").expect("written");
    assert!(output.status.success());
    output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| line == b"1")
        .collect()
}
