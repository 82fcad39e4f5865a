//! Tests which texts are TwiML. Apache Xerces, whose messages Twilio quotes for error 12100, also rejects
//! everything rejected here.

use super::*;

const TWIML: Document = Document::Twiml { has_unknown_verb: false };
const UNKNOWN_VERB: Document = Document::Twiml { has_unknown_verb: true };

#[test]
fn accepts_what_twilio_executes() {
    for text in [
        "<Response/>",
        "<Response></Response >",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Say>Hi &amp; bye &#33;&#x1F44B;</Say></Response>\n",
        "<?xml version='1.0' encoding='ISO-8859-1' standalone='yes' ?><Response/>",
        "<?xml version=\"1.1\"?><Response/>",
        "\u{feff}<Response/>",
        "\u{ef}\u{bb}\u{bf}<?xml version=\"1.0\"?><Response/>",
        "\n<Response/>",
        "<!-- note --><Response><![CDATA[x < y ]] & z]]><Hangup/></Response><!-- end -->",
        "<?php-made by=\"hand\"?><Response/>",
        "<Response><Gather><Say>x</Say><Odd/></Gather></Response>",
        "<Response><Say><amazon:effect name=\"whispered\">psst</amazon:effect></Say></Response>",
        "<Response xmlns=\"urn:x\" xmlns:t=\"urn:y\"><t:Say t:voice=\"a\">x</t:Say></Response>",
        "<t:Response xmlns:t=\"urn:y\"><Say>x</Say></t:Response>",
        "<Response><Redirect method=\"POST\" >https://a.example/?b=1&amp;c=2</Redirect></Response>",
        "<Response><Dial action='/x?a=1&amp;b=\"2\"' timeout = \"5\"\n/></Response>",
        "<Response><Say>日本語 ü \u{fffd}</Say></Response>",
        "<Response><Dial größe=\"1\"/></Response>",
        "<Response>words between verbs</Response>",
    ] {
        check(text, TWIML);
    }
}

#[test]
fn an_unknown_verb_is_a_warning() {
    for verb in VERBS {
        check(&format!("<Response><{verb}/></Response>"), TWIML);
    }
    for text in [
        "<Response><Speak>x</Speak></Response>",
        "<Response><say>x</say></Response>",
        "<Response><Say/><Message>for an SMS</Message></Response>",
        "<Response><Response/></Response>",
    ] {
        check(text, UNKNOWN_VERB);
    }
}

#[test]
fn a_different_root_element_is_not_twiml() {
    for text in [
        "<response/>",
        "<RESPONSE/>",
        "<Responses/>",
        "<Say>x</Say>",
        "<html><body>Oops</body></html>",
        "<?xml version=\"1.0\"?><TwilioResponse><Call/></TwilioResponse>",
        "<soap:Envelope xmlns:soap=\"urn:s\"><soap:Body/></soap:Envelope>",
    ] {
        check(text, Document::WrongRoot);
    }
}

#[test]
fn content_before_or_after_the_document_is_malformed() {
    for text in [
        "",
        "hello",
        "{\"a\":1}",
        "null",
        "Warning: Undefined variable $x in /srv/voice.php on line 3\n<?xml version=\"1.0\"?><Response/>",
        "<br />\n<b>Warning</b>:  Undefined variable $x in <b>/srv/voice.php</b> on line <b>3</b><br />\n<?xml version=\"1.0\"?><Response/>",
        " <?xml version=\"1.0\"?><Response/>",
        "\n<?xml version=\"1.0\"?><Response/>",
        "<!-- x --><?xml version=\"1.0\"?><Response/>",
        "\u{feff}\u{feff}<Response/>",
        "<Response/><Response/>",
        "<Response/>trailing",
        "<Response/>\n<script>x</script>",
        "<Response/><?xml version=\"1.0\"?>",
        "<Response/>&amp;",
        "<![CDATA[x]]><Response/>",
        "<!DOCTYPE html><html></html>",
    ] {
        check_malformed(text);
    }
}

#[test]
fn a_document_truncated_at_any_point_is_malformed() {
    let whole = "<?xml version=\"1.0\"?><Response><Say voice=\"a\">x &amp; <![CDATA[y]]><!-- z --></Say></Response>";
    check(whole, TWIML);
    for (end, _) in whole.char_indices() {
        check(&whole[..end], Document::Malformed(Malformation::Truncated));
    }
}

#[test]
fn a_dtd_is_rejected_and_no_entity_is_expanded() {
    for text in [
        "<!DOCTYPE Response><Response/>",
        "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Response><Say>&b;</Say></Response>",
        "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Response>&x;</Response>",
        "<!DOCTYPE r SYSTEM \"https://a.example/evil.dtd\"><Response/>",
        "<Response><Say>&undefined;</Say></Response>",
        "<Response><Say>&nbsp;</Say></Response>",
        "<Response><Say x=\"&copy;\"/></Response>",
    ] {
        check_malformed(text);
    }
}

#[test]
fn violations_of_xml_rules_are_malformed() {
    for text in [
        "<Response><Say>x</Response>",
        "<Response><Say>x</say></Response>",
        "<Response></Respons>",
        "<Response></ Response>",
        "<Response></Response x>",
        "</Response>",
        "< Response/>",
        "<Response / >",
        "<1Response/>",
        "<Response><-/></Response>",
        // Ampersands, the most common mistake: in text, in a URL, in an attribute.
        "<Response><Say>Marks & Spencer</Say></Response>",
        "<Response><Redirect>/x?a=1&b=2</Redirect></Response>",
        "<Response><Dial action=\"/x?a=1&b=2\"/></Response>",
        "<Response><Dial action=\"/x?a=1&b\"/></Response>",
        "<Response><Say>&#0;</Say></Response>",
        "<Response><Say>&#x1F;</Say></Response>",
        "<Response><Say>&#xD800;</Say></Response>",
        "<Response><Say>&#x110000;</Say></Response>",
        "<Response><Say>&#99999999999;</Say></Response>",
        "<Response><Say>&#;</Say></Response>",
        "<Response><Say>&#+65;</Say></Response>",
        "<Response><Say>&#X41;</Say></Response>",
        "<Response><Say>&;</Say></Response>",
        // Attributes.
        "<Response><Say a=\"1\" a=\"2\"/></Response>",
        "<Response><Say a=b/></Response>",
        "<Response><Say a/></Response>",
        "<Response><Say a=\"1\"b=\"2\"/></Response>",
        "<Response><Say a=\"1/></Response>",
        "<Response><Say =\"1\"/></Response>",
        "<Response><Say a=\"<\"/></Response>",
        "<Response><Say 1a=\"1\"/></Response>",
        // The rest.
        "<Response><Say>a ]]> b</Say></Response>",
        "<Response><Say>bell \u{7}</Say></Response>",
        "<Response><Say>nul \0</Say></Response>",
        "<Response><Say a=\"\u{b}\"/></Response>",
        "<Response>\u{ffff}</Response>",
        "<Response><!-- a -- b --></Response>",
        "<Response><!-- a ---></Response>",
        "<Response><?xml x?></Response>",
        "<Response><?XML x?></Response>",
        "<Response><? x?></Response>",
        "<?xml?><Response/>",
        "<?xml encoding=\"UTF-8\"?><Response/>",
        "<?xml version=\"2.0\"?><Response/>",
        "<?xml version=\"1.0\" standalone=\"maybe\"?><Response/>",
        "<?xml version=\"1.0\" standalone=\"yes\" encoding=\"UTF-8\"?><Response/>",
        "<?xml version=\"1.0\" encoding=\"\"?><Response/>",
        "<?xml version=\"1.0\" charset=\"UTF-8\"?><Response/>",
    ] {
        check_malformed(text);
    }
}

#[test]
fn duplicates_among_many_attributes_are_found() {
    let attributes: Vec<String> = (0..500).map(|n| format!("a{n}=\"\"")).collect();
    check(&format!("<Response {}/>", attributes.join(" ")), TWIML);
    for twice in [0, 15, 16, 17, 499] {
        let text = format!("<Response {} a{twice}=\"\"/>", attributes.join(" "));
        check_malformed(&text);
    }
}

#[test]
fn misdecoded_or_deeply_nested_text_is_unreadable() {
    for text in ["\u{ff}\u{fe}<\0R\0", "<\0R\0e\0", "\0<\0R", "\u{fffd}\u{fffd}<\0R\0"] {
        check(text, Document::Unreadable);
    }
    let nested = |depth| format!("{}{}", "<Response>".repeat(depth), "</Response>".repeat(depth));
    check(&nested(MAX_DEPTH), UNKNOWN_VERB);
    check(&nested(MAX_DEPTH + 1), Document::Unreadable);
    check(&"<Response>".repeat(1_000_000), Document::Unreadable);
}

#[test]
fn the_malformation_names_the_mistake() {
    use Malformation::{BareAmpersand, BeforeProlog, Entity, MismatchedTag, Other, Truncated};
    for (text, expected) in [
        ("OK", BeforeProlog),
        ("{\"a\":1}", BeforeProlog),
        ("Warning: x\n<?xml version=\"1.0\"?><Response/>", BeforeProlog),
        ("\n<?xml version=\"1.0\"?><Response/>", BeforeProlog),
        ("<!-- x --><?xml version=\"1.0\"?><Response/>", BeforeProlog),
        ("<br />\n<b>Warning</b>: x<br />\n<Response/>", BeforeProlog),
        ("\u{feff}\u{feff}<Response/>", BeforeProlog),
        ("", Truncated),
        ("<!-- only a comment -->", Truncated),
        ("<Response><Say>Hello", Truncated),
        ("<Response><Say>Hello</Say", Truncated),
        ("<Response><Say>a &am", Truncated),
        ("<Response><Dial action=\"/x?a=1&", Truncated),
        ("<Response><Say>&nbsp;</Say></Response>", Entity),
        ("<Response><Say x=\"&copy;\"/></Response>", Entity),
        ("<Response><Say>&#0;</Say></Response>", Entity),
        ("<Response><Say>&#xZZ;</Say></Response>", Entity),
        ("<Response><Say>&größe;</Say></Response>", Entity),
        ("<Response><Say>Marks & Spencer</Say></Response>", BareAmpersand),
        ("<Response><Redirect>/x?a=1&b=2</Redirect></Response>", BareAmpersand),
        ("<Response><Redirect>/x?a=1&b=2;c</Redirect></Response>", BareAmpersand),
        ("<Response><Dial action='/x?a=1&b=2'/></Response>", BareAmpersand),
        ("<Response><Say>this &amp that</Say></Response>", BareAmpersand),
        ("<Response><Say>x</Response>", MismatchedTag),
        ("<Response><Say>x</say></Response>", MismatchedTag),
        ("<Response></Respons>", MismatchedTag),
        ("<Response><Pause></Response></Pause>", MismatchedTag),
        ("</Response>", MismatchedTag),
        ("<Response/></Response>", MismatchedTag),
        ("<!DOCTYPE html><html></html>", Other),
        ("<Response/>trailing", Other),
        ("<Response/><Response/>", Other),
        ("<Response><Say a=b/></Response>", Other),
        ("<Response><Say>\u{7}</Say></Response>", Other),
        ("<Response><Say>1 < 2</Say></Response>", Other),
    ] {
        check(text, Document::Malformed(expected));
    }
}

fn check_malformed(text: &str) {
    let document = read(without_byte_order_mark(text));
    assert!(
        matches!(document, Document::Malformed(_)),
        "{:.300}: {document:?}",
        text.escape_debug()
    );
}

fn check(text: &str, expected: Document) {
    assert_eq!(read(without_byte_order_mark(text)), expected, "{:.300}", text.escape_debug());
}
