//! Any page of Call Events is split, decoded, identified and judged without a panic; labels stay within
//! their maximum length, and the verdict is deterministic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twilio_call_exporter::domain::judge::observe::observe;
use twilio_call_exporter::domain::judge::route::{RoutePattern, Routes};
use twilio_call_exporter::domain::track::digest::{DigestKey, DigestVersion, Digests};
use twilio_call_exporter::twilio::wire::{Page, decode_call_event};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let pattern = RoutePattern::parse("*.example.com/ivr/:tenant").expect("a pattern");
    let routes = Routes::new(vec![pattern]);
    let Some(page) = Page::split(&text) else { return };
    for item in &page.items {
        let Ok(event) = decode_call_event(item) else { continue };
        let digests = Digests::new(DigestKey::new([7; 16]), DigestVersion::CURRENT);
        assert_eq!(digests.identify(&event), digests.identify(&event));
        let Ok(observed) = observe(&event, &routes) else { continue };
        assert!(observed.endpoint.host.len() <= 256 && observed.endpoint.route.len() <= 256);
        assert!(observed.verdict.content_type.is_none() || observed.kind.expects_twiml());
        assert_eq!(observe(&event, &routes), Ok(observed));
    }
});
