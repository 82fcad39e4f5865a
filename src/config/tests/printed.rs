//! The output of `check-config`: a configuration that can be loaded again.

use super::*;

#[test]
fn the_printed_configuration_can_be_loaded() {
    let file = "poll: { interval: 1m30s, after_end: [] }\napi: { ca_file: /etc/ca.pem }\nroutes: [ '/a/:b', '*.example.com/c' ]\n";
    let config = load_text(file, &sdk_variables()).expect("valid configuration");
    let printed = config.to_string();
    let again: String = printed
        .lines()
        .skip_while(|line| *line != "poll:")
        .fold(String::new(), |text, line| text + line + "\n");
    let again = load_text(&again, &sdk_variables()).expect("valid configuration");
    assert_eq!(again.to_string(), printed);
    assert_eq!((again.lists, again.reads), (config.lists, config.reads));
    assert_eq!((again.api, again.routes), (config.api, config.routes));
}

#[test]
fn printed_accounts_omit_only_secrets() {
    let name = "é \" ' : # {} \u{2028} \\ -";
    let quoted = serde_json::Value::from(name).to_string();
    let file = format!(
        "accounts:\n  - account_sid: {SID}\n    name: {quoted}\n    auth_token_env: T\n    region: ie1\n    subaccounts: {{ discover: true, include: ['*'], exclude: [{quoted}], names: {{ AC00000000000000000000000000000002: 'no' }} }}\n  - account_sid: {SID}\n    api_key: SK00000000000000000000000000000003\n    api_secret_env: T\n"
    );
    let variables = Environment::from_pairs([("T", MARK)]);
    let config = load_text(&file, &variables).expect("valid configuration");
    let printed = config.to_string();
    let marker = "# secret: <redacted>, from environment variable `T`";
    let again =
        printed.replacen(marker, "auth_token_env: T", 1).replacen(marker, "api_secret_env: T", 1);
    let again = load_text(&again, &variables).expect("valid configuration");
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.accounts[0].label, name);
    assert_eq!(again.accounts[1].credentials.username, "SK00000000000000000000000000000003");
}
