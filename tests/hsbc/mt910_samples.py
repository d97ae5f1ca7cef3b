"""MT910 messages for tests: published ones, one of ours in every field, and bad ones with SWIFT's code for them."""

from __future__ import annotations

WHOLE = (
    "{1:F01HSBCHKHHAXXX0001000001}{2:O9101030260312HSBCHKHHAXXX00010000012603121030N}{3:{108:HSBC000000000001}}{4:\r\n"
    ":20:HSBC000000000001\r\n"
    ":21:NONREF\r\n"
    ":25:808000000011\r\n"
    ":13D:2603121029+0800\r\n"
    ":32A:260312HKD12345,67\r\n"
    ":50K:/012345678901\r\n"
    "CHAN TAI MAN\r\n"
    ":52A:HSBCHKHHXXX\r\n"
    ":56D:/C/4711\r\n"
    "BANK OF SOMEWHERE\r\n"
    ":72:/BNF/DEPOSIT\r\n"
    "//TO BROKER\r\n"
    "-}{5:{CHK:123456789ABC}}")
"""A message in which every field that may stand together stands."""

PUBLISHED = {
    # The example of SWIFT's own handbook for MT910, in the envelopes of three public test suites.
    "handbook 2013, in a camt.054 translation test": (
        "{1:F01YOURBANKXXXX0000000000}{2:O9100725221020INGBROBUXXXX00000000002210200725N}{4:\r\n:20:C11126C9224\r\n"
        ":21:494936/DEV\r\n:25:6-9412771\r\n:13D:1401231426+0100\r\n:32A:140123USD500000,\r\n:52A:BKAUATWW\r\n"
        ":56A:BKTRUS33\r\n-}",
        ("C11126C9224", "494936/DEV", "6-9412771", "USD", "500000,", "", "BKAUATWW")),
    "handbook 1998, in a validation engine's test": (
        "{1:F01FOOABCD0AXXX3048000056}{2:I910AAAAAAAAXXXXN}{4:\r\n:20:C11126C9224\r\n:21:494936/DEV\r\n"
        ":25:6-9412771\r\n:32A:980527USD500000,\r\n:52A:BKAUATWW\r\n:56A:BKTRUS33\r\n-}\r\n",
        ("C11126C9224", "494936/DEV", "6-9412771", "USD", "500000,", "", "BKAUATWW")),
    "cash management use case of cross-border payments": (
        "{1:F01TDOMUS33XXXX0000000000}{2:O9101800210427ROYCCAT2XXXX00000000002104271800N}{4:\r\n"
        ":20:cmt054bizmsgidr+\r\n:21:pacs9bizmsgidr03\r\n:25:9875687\r\n:32A:210427CAD2565972,\r\n"
        ":52D:NOTPROVIDED\r\n-}",
        ("cmt054bizmsgidr+", "pacs9bizmsgidr03", "9875687", "CAD", "2565972,", "", "NOTPROVIDED")),
    "central bank, with trailers and system block": (
        "{1:F01XXXXYYMMMXXX0155001111}{2:O9101044170425XXXXYYZZAXXX03330334541704251044N}{3:{108:1801337624.00}}{4:\r\n"
        ":20:SSCHG1614\r\n:21:REF1614\r\n:25:3000000003\r\n:32A:170425UGX484,\r\n:52A:XXXXYYZZ\r\n"
        "-}{5:{CHK:EF80F3FB2ED6}}{S:{COP:P}}",
        ("SSCHG1614", "REF1614", "3000000003", "UGX", "484,", "", "XXXXYYZZ")),
    "converter's test, ordering customer with account": (
        "{1:F01BANKBEBBAXXX0000000000}{2:I910DEUTDEFFXXXXN}{4:\r\n:20:CRD001\r\n:21:ORIG99\r\n"
        ":25:BE68539007547034\r\n:32A:240115EUR7500,00\r\n:50K:/BE68539007547034\r\nPAYING CUSTOMER\r\n-}",
        ("CRD001", "ORIG99", "BE68539007547034", "EUR", "7500,00", "PAYING CUSTOMER", "")),
}
"""Where it was published -> the message and (reference, related, account, ccy, amount, customer, institution)."""

_A = ":20:HSBC000000000001"
BAD: tuple[tuple[str, str, str, str, str, int], ...] = (
    # what is changed into what, the code, the tag, the line of the file
    ("T13", ":13D:2603121029+0800", ":13C:/CLSTIME/0915+0100", "13C", "an unknown tag", 5),
    ("T13", ":21:NONREF\r\n:25:808000000011", ":25:808000000011\r\n:21:NONREF", "21", "out of order", 4),
    ("T13", _A, f"{_A}\r\n{_A}", "20", "given twice", 3),
    ("T13", ":21:NONREF\r\n", "", "21", "missing", 2),
    ("T13", ":25:808000000011\r\n", "", "25", "missing", 2),
    ("T13", ":32A:260312HKD12345,67\r\n", "", "32A", "missing", 2),
    ("T13", f"{_A}\r\n", "", "20", "missing", 2),
    ("T13", "CHAN TAI MAN", ":CHAN TAI MAN", "50K", "a line that begins with a colon", 8),
    ("T13", "CHAN TAI MAN", "-CHAN TAI MAN", "50K", "a line that begins with a hyphen", 8),
    ("T13", ":52A:HSBCHKHHXXX", ":50A:HSBCHKHHXXX", "50A", "two ordering customers", 9),
    ("T15", "1029+0800", "1029/0800", "13D", "a sign", 5),
    ("T16", "+0800", "+1400", "13D", "hours of an offset", 5),
    ("T16", "+0800", "+0860", "13D", "minutes of an offset", 5),
    ("T26", _A, ":20:/HSBC0000000001", "20", "begins with a slash", 2),
    ("T26", _A, ":20:HSBC0000000001/", "20", "ends with a slash", 2),
    ("T26", _A, ":20:HSBC//00000001", "20", "two slashes", 2),
    ("T26", ":21:NONREF", ":21:NON//REF", "21", "two slashes", 3),
    ("T27", ":52A:HSBCHKHHXXX", ":52A:HSBC HONG KONG", "52A", "no BIC", 9),
    ("T27", ":52A:HSBCHKHHXXX", ":52A:HSBCHKHHXX", "52A", "a BIC of ten", 9),
    ("T27", ":25:808000000011", ":25P:808000000011\r\nHSBC", "25P", "no BIC", 5),
    ("T33", _A, ":20:HSBC0000000000001", "20", "17 characters", 2),
    ("T33", _A, ":20:", "20", "empty", 2),
    ("T33", ":25:808000000011", f":25:{'8' * 36}", "25", "36 characters", 4),
    ("T33", "2603121029+0800", "26031210:9+0800", "13D", "no digits", 5),
    ("T33", "CHAN TAI MAN", "C" * 36, "50K", "36 characters", 7),
    ("T33", "CHAN TAI MAN", "A\r\nB\r\nC\r\nD\r\nE", "50K", "five lines", 7),
    ("T33", "/012345678901\r\nCHAN TAI MAN", "/012345678901", "50K", "an account without a name", 7),
    ("T33", "//TO BROKER", "//\r\n//\r\n//\r\n//\r\n//\r\n//", "72", "seven lines", 12),
    ("T38", "2603121029", "2603122429", "13D", "the 24th hour", 5),
    ("T38", "2603121029", "2603121060", "13D", "the 60th minute", 5),
    ("T40", "HKD12345,67", "HKD,67", "32A", "nothing before the comma", 6),
    ("T40", "HKD12345,67", "HKD", "32A", "no amount", 6),
    ("T43", "HKD12345,67", "HKD12345.67", "32A", "a point", 6),
    ("T43", "HKD12345,67", "HKD12345", "32A", "no comma", 6),
    ("T43", "HKD12345,67", "HKD12,345,67", "32A", "two commas", 6),
    ("T43", "HKD12345,67", "HKD1234567890123,45", "32A", "16 characters", 6),
    ("T43", "HKD12345,67", "HKD-2345,67", "32A", "a sign", 6),
    ("T50", ":32A:260312", ":32A:260230", "32A", "30 February", 6),
    ("T50", ":32A:260312", ":32A:261301", "32A", "month 13", 6),
    ("T50", "2603121029", "2602291029", "13D", "29 February of no leap year", 5),
    ("T52", "HKD12345,67", "CNH12345,67", "32A", "CNH is none of ISO's", 6),
    ("T52", "HKD12345,67", "XYZ12345,67", "32A", "no currency", 6),
    ("C03", "HKD12345,67", "HKD12345,678", "32A", "three decimals", 6),
    ("C03", "HKD12345,67", "JPY12345,6", "32A", "a currency without decimals", 6),
    ("C06", ":50K:/012345678901\r\nCHAN TAI MAN\r\n:52A:HSBCHKHHXXX\r\n", "", "50a", "nobody", 1),
    ("M60", "CHAN TAI MAN", "CHAN_TAI MAN", "50K", "an underscore", 8),
    ("M60", "CHAN TAI MAN", "\xa4\xa4\xa4\xe5", "50K", "Big5", 8),
    ("M60", "CHAN TAI MAN\r\n", "CHAN TAI MAN\n", "50K", "a bare line feed", 8),
    ("FRAME", "\r\n-}", "\r\n", "", "cut off", 1),
    ("FRAME", "{2:O910", "{2:O900", "", "another type", 1),
    ("FRAME", "{1:F01", "{1:F21", "", "an acknowledgement", 1),
    ("FRAME", "{2:O9101030260312HSBCHKHHAXXX00010000012603121030N}", "", "", "no application header", 1),
    ("FRAME", "{3:{108:", "{3:{108:{", "", "a brace", 1),
    ("FRAME", "{1:F01HSBC", "{0:F01HSBC", "", "no beginning", 1),
)
