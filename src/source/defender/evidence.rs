//! What the evidence of an alert says in the words of the stock columns.

use crate::core::mapping::from_list::{
    Better, Entity, EntityKind, Fill,
    FillWith::{Account, Always, File, First, Integer, Remote, Text},
    FromList, fill,
};

const fn kind(name: &'static str, fills: &'static [Fill]) -> EntityKind {
    EntityKind { name, fills }
}

const DEVICE: &str = "deviceUuid";

/// The device. Where there is none, a file or a process says on which it was found.
const GRAPH_DEVICE: Entity = &[
    kind(
        "deviceEvidence",
        &[
            fill(DEVICE, Text(&["mdeDeviceId"])),
            fill("deviceDisplayName", Text(&["deviceDnsName", "hostName"])),
        ],
    ),
    kind("processEvidence", &[fill(DEVICE, Text(&["mdeDeviceId"]))]),
    kind("fileEvidence", &[fill(DEVICE, Text(&["mdeDeviceId"]))]),
];

const GRAPH_ACCOUNT: &[Fill] = &[fill("userNameBase", Account("userAccount"))];

const USER: &str = "userNameBase";

/// The user, else whose process, session, mailbox or mail it is.
const GRAPH_USER: Entity = &[
    kind("userEvidence", GRAPH_ACCOUNT),
    kind("processEvidence", GRAPH_ACCOUNT),
    kind(
        "cloudLogonSessionEvidence",
        &[fill(USER, Account("account"))],
    ),
    kind(
        "mailboxEvidence",
        &[
            fill(USER, Text(&["upn"])),
            fill(USER, Account("userAccount")),
            fill(USER, Text(&["primaryAddress"])),
        ],
    ),
    kind(
        "analyzedMessageEvidence",
        &[fill(USER, Text(&["recipientEmailAddress"]))],
    ),
];

const GRAPH_PROCESS: Entity = &[kind(
    "processEvidence",
    &[
        fill("processPath", File("imageFile")),
        fill("processCommandline", Text(&["processCommandLine"])),
    ],
)];

/// What was found: a file, else what runs, else who sent the mail.
const GRAPH_OBJECT: Entity = &[
    kind(
        "fileEvidence",
        &[
            fill("objectName", File("fileDetails")),
            fill("objectHashSha1", Text(&["fileDetails.sha1"])),
            fill("objectSizeBytes", Integer("fileDetails.fileSize")),
            fill("objectTypeName", Always("File")),
        ],
    ),
    kind(
        "processEvidence",
        &[
            fill("objectName", File("imageFile")),
            fill("objectHashSha1", Text(&["imageFile.sha1"])),
            fill("objectSizeBytes", Integer("imageFile.fileSize")),
            fill("objectTypeName", Always("Process")),
        ],
    ),
    kind(
        "analyzedMessageEvidence",
        &[
            fill(
                "objectName",
                Text(&["p2Sender.emailAddress", "p1Sender.emailAddress"]),
            ),
            fill("objectTypeName", Always("Email")),
        ],
    ),
];

const GRAPH_URL: Entity = &[
    kind("urlEvidence", &[fill("objectUrl", Text(&["url"]))]),
    kind(
        "analyzedMessageEvidence",
        &[fill("objectUrl", First("urls"))],
    ),
    kind("mailClusterEvidence", &[fill("objectUrl", First("urls"))]),
];

const GRAPH_ADDRESS: Entity = &[
    kind(
        "ipEvidence",
        &[fill("networkCommunication", Remote("ipAddress"))],
    ),
    kind(
        "analyzedMessageEvidence",
        &[fill("networkCommunication", Remote("senderIp"))],
    ),
];

/// Evidence as Graph tells it.
pub(super) const GRAPH: FromList = FromList {
    list: "evidence",
    kind: "@odata.type",
    things: &[
        GRAPH_DEVICE,
        GRAPH_USER,
        GRAPH_PROCESS,
        GRAPH_OBJECT,
        GRAPH_URL,
        GRAPH_ADDRESS,
    ],
    better: None,
};

/// The alert itself names the device, and often the user.
const MDE_USER: Entity = &[kind("User", &[fill("userNameBase", Account(""))])];

const MDE_PROCESS: Entity = &[kind(
    "Process",
    &[
        fill("processPath", File("")),
        fill("processCommandline", Text(&["processCommandLine"])),
    ],
)];

const MDE_OBJECT: Entity = &[
    kind(
        "File",
        &[
            fill("objectName", File("")),
            fill("objectHashSha1", Text(&["sha1"])),
            fill("objectTypeName", Always("File")),
        ],
    ),
    kind(
        "Process",
        &[
            fill("objectName", File("")),
            fill("objectHashSha1", Text(&["sha1"])),
            fill("objectTypeName", Always("Process")),
        ],
    ),
];

const MDE_URL: Entity = &[kind("Url", &[fill("objectUrl", Text(&["url"]))])];

const MDE_ADDRESS: Entity = &[kind(
    "Ip",
    &[fill("networkCommunication", Remote("ipAddress"))],
)];

/// Evidence as Defender for Endpoint tells it.
pub(super) const MDE: FromList = FromList {
    list: "evidence",
    kind: "entityType",
    things: &[MDE_USER, MDE_PROCESS, MDE_OBJECT, MDE_URL, MDE_ADDRESS],
    // The alert knows its user by domain and name alone.
    better: Some(Better {
        column: USER,
        own: "relatedUser.userName",
        kind: "User",
        same: "accountName",
        value: "userPrincipalName",
    }),
};
