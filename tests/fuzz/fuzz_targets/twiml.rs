//! Any text is judged as TwiML without a panic, and quick-xml accepts every text judged well-formed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quick_xml::Reader;
use quick_xml::events::Event;
use twilio_call_exporter::domain::judge::twiml::{self, Document};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let text = twiml::without_byte_order_mark(&text);
    match twiml::read(text) {
        Document::Twiml { .. } | Document::WrongRoot => {
            let mut reader = Reader::from_str(text);
            reader.config_mut().check_comments = true;
            while reader.read_event().expect("well-formed") != Event::Eof {}
        }
        Document::Malformed(_) | Document::Unreadable => {}
    }
});
