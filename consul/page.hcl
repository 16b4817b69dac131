# Rules for the token of the page, `rolloutd page`: it follows everything and writes nothing.
#
#   consul acl policy create -name weightd-page -rules @page.hcl
#   consul acl token create -description "page of weightd" -policy-name weightd-page
#
# A person who signs in to the page writes with a token of their own. If Consul has
# `acl.enable_key_list_policy`, use "list" instead of "read".

# The documents, and what happened to each backend.
key_prefix "weightd/weights/" { policy = "read" }
key_prefix "weightd/history/" { policy = "read" }

# Whether changes are stopped.
key "weightd/freeze" { policy = "read" }
key_prefix "weightd/freeze/" { policy = "read" }

# The rollouts, who leads, and the plans.
key_prefix "weightd/rollouts/" { policy = "read" }
key "weightd/controller" { policy = "read" }
key_prefix "weightd/plans/" { policy = "read" }

# What the nodes have, which nodes exist, and how many there should be.
key_prefix "weightd/nodes/" { policy = "read" }
key_prefix "weightd/inventory/" { policy = "read" }
key "weightd/expect" { policy = "read" }

# The numbers that the nodes report of observed backends.
key_prefix "weightd/counters/" { policy = "read" }
